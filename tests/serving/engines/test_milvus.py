"""A gallery in milvus-lite, embedded and over its server on loopback."""

import concurrent.futures
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex, manipulate
from gradrev_jax.core.normalization import normalize_features
from gradrev_jax.errors import ConfigError, DataError, EngineError
from gradrev_jax.serving.engines import milvus, milvus_client
from gradrev_jax.serving.engines.engine import Lengths, check_gallery
from gradrev_jax.serving.engines.exact import direct_squares, exact_search
from gradrev_jax.serving.engines.milvus import MilvusEngine, filter_expression
from gradrev_jax.serving.engines.milvus_client import Connection
from gradrev_jax.serving.engines.opening import fill_engine, open_engine
from tests.engine_galleries import SCHEMA, make_gallery

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

ROOT = pathlib.Path(__file__).parents[3]
BATCH_BYTES = 4000  # 22 rows


def opened(text, gallery):
    return open_engine(text, schema=gallery.schema, fingerprint=gallery.fingerprint)


def filled(text, gallery, **options):
    fill_engine(text, gallery, batch_bytes=BATCH_BYTES, progress=False, **options)
    return text


@pytest.fixture(scope="module")
def made():
    return make_gallery()


@pytest.fixture
def gallery(made):
    return made[1]


@pytest.fixture(scope="module")
def shop(made, tmp_path_factory):
    """A gallery in an embedded engine."""
    return filled(f"milvus:{tmp_path_factory.mktemp('engine')}/shop.db", made[1])


@pytest.fixture(scope="module")
def engine(shop, made):
    engine = opened(shop, made[1])
    yield engine
    engine.close()


@pytest.fixture
def calls(monkeypatch):
    """The methods that connections call."""
    names, call = [], Connection.call
    monkeypatch.setattr(
        Connection,
        "call",
        lambda self, name, *a, **options: names.append(name) or call(self, name, *a, **options),
    )
    return names


def searches(features, gallery, count, seed=0):
    """Edited items as an index takes them and as an engine does: references, indicators and vectors."""
    rng = np.random.default_rng(seed)
    memory = rng.normal(size=(SCHEMA.num_values, *features.shape[1:])).astype(np.float32)
    reference = rng.integers(0, len(features), count)
    indicators = np.zeros((count, SCHEMA.num_values), np.int8)
    for row in indicators:
        row[rng.choice(SCHEMA.num_values, 2, replace=False)] = (1, -1)
    indicators[::7] = 0  # the item as it is
    index = ManipulationIndex.build(features, memory, SCHEMA)
    queries = np.asarray(normalize_features(manipulate(features[reference], indicators, memory)))
    return index, reference, indicators, queries


def squares_of(query, gallery, rest=1.0):
    return direct_squares(query, gallery.vectors, gallery.rest_from, rest)


def random_filter(rng):
    where = {}
    for n, size in enumerate(SCHEMA.sizes):
        if rng.random() < 0.4:
            where[n] = rng.choice(np.arange(-1, size), rng.integers(1, size + 1), replace=False).tolist()
    return where


def passing(gallery, where, exclude):
    keep = np.ones(len(gallery.names), bool)
    for n, wanted in where.items():
        keep &= [label in wanted for label in gallery.labels[:, n]]
    keep[list(exclude)] = False
    return keep


def check_as_the_index(made, engine, count, k=10):
    """Compares an engine with the index, whose whole ranking is filtered afterwards."""
    features, gallery = made
    index, reference, indicators, queries = searches(features, gallery, count)
    ranked = np.asarray(index.search(reference_ids=reference, indicators=indicators, k=len(features)).indices)
    rng = np.random.default_rng(1)
    for number, query in enumerate(queries):
        where = random_filter(rng) if number % 2 else {}
        exclude = [int(reference[number])] if number % 3 else []
        found = exact_search(engine, query, k, where=where, exclude=exclude)
        keep = passing(gallery, where, exclude)
        kept = ranked[number][keep[ranked[number]]]
        expected = kept[:k]
        assert found.exact
        assert len(found.rows) == min(k, keep.sum())
        assert keep[found.rows].all()
        distances = np.sqrt(squares_of(query, gallery))
        np.testing.assert_allclose(found.distances, distances[expected], atol=2e-6)
        # Rows that are equally far may change places, also with the one after the last.
        gaps = np.abs(np.diff([-np.inf, *distances[kept[: k + 1]], np.inf]))
        apart = (gaps[:-1] > 1e-6) & (gaps[1:] > 1e-6)
        assert (found.rows == expected)[apart[: len(expected)]].all()


@pytest.mark.long
def test_results_are_those_of_the_index_with_and_without_filters(made, engine):
    check_as_the_index(made, engine, 60)


@pytest.mark.slow
def test_results_of_a_thousand_queries_are_those_of_the_index(tmp_path):
    made = make_gallery(num_rows=2000, dim=32, seed=3)
    engine = opened(filled(f"milvus:{tmp_path}/shop.db", made[1]), made[1])
    check_as_the_index(made, engine, 1000, k=20)
    engine.close()


def test_equal_rows_come_in_the_order_of_the_gallery(made, engine):
    found = exact_search(engine, made[1].vectors[0], 5)
    assert found.rows.tolist() == [0, 100, 105, 110, 115]
    assert found.distances.tolist() == [0.0] * 5


def test_vectors_of_different_lengths_are_compared_by_distance(tmp_path, rng):
    _, gallery = make_gallery(num_rows=120, normalize="none")
    assert not check_gallery(gallery).are_equal
    engine = opened(filled(f"milvus:{tmp_path}/shop.db", gallery), gallery)
    for query in rng.normal(size=(10, gallery.vectors.shape[1])).astype(np.float32):
        expected = np.argsort(squares_of(query, gallery), kind="stable")[:9]
        found = exact_search(engine, query, 9)
        assert (found.rows.tolist(), found.exact) == (expected.tolist(), True)
    with pytest.raises(ConfigError, match="no attribute is 1, not 0.5"):
        exact_search(engine, query, 9, rest=0.5)
    engine.close()


def test_the_weight_of_the_rest_is_chosen_when_searching(tmp_path, rng):
    """One collection serves every weight of the look, since both parts of a vector have one length each."""
    vectors = rng.normal(size=(200, 3, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    _, gallery = make_gallery()
    gallery = gallery._replace(vectors=vectors.reshape(200, -1), rest_from=16)
    engine = opened(filled(f"milvus:{tmp_path}/shop.db", gallery), gallery)
    for rest in (0.0, 0.25, 1.0, 3.0):
        for query in rng.normal(size=(4, 24)):
            expected = np.argsort(squares_of(query, gallery, rest), kind="stable")[:9]
            found = exact_search(engine, query, 9, rest=rest)
            assert (found.rows.tolist(), found.exact) == (expected.tolist(), True)
    engine.close()


def test_many_candidates_are_fetched_in_several_answers(gallery, engine, monkeypatch, calls):
    monkeypatch.setattr(milvus, "FETCHED_BYTES", gallery.vectors.shape[1] * 4 * 30)
    expected = np.argsort(squares_of(gallery.vectors[3], gallery), kind="stable")[:100]
    assert exact_search(engine, gallery.vectors[3], 100, margin=10).rows.tolist() == expected.tolist()
    assert calls.count("get") > 3


def test_stored_vectors_come_in_the_order_asked_for(gallery, engine):
    rows = np.array([7, 2, 199])
    assert (engine.vectors(rows) == gallery.vectors[rows]).all()
    assert engine.vectors(rows[:0]).shape == (0, gallery.vectors.shape[1])
    with pytest.raises(DataError, match="has lost row 200"):
        engine.vectors(np.array([1, 200]))


def test_several_threads_may_search_at_once(gallery, engine):
    queries = gallery.vectors[:40]
    expected = [exact_search(engine, query, 5).rows.tolist() for query in queries]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda query: exact_search(engine, query, 5).rows.tolist(), queries))
    assert found == expected


def test_names_of_any_script_or_none_are_kept(tmp_path, gallery):
    names = ["\udcff.jpg", "", "é" * 70_000, *gallery.names[3:]]
    engine = opened(filled(f"milvus:{tmp_path}/shop.db", gallery._replace(names=names)), gallery)
    assert exact_search(engine, gallery.vectors[1], 1).rows.tolist() == [1]
    engine.close()


def test_nothing_is_labelled_with_none_of_no_values(gallery, engine):
    assert len(exact_search(engine, gallery.vectors[0], 3, where={0: []}).rows) == 0


def test_a_filter_is_made_of_numbers_alone(unchecked):
    assert filter_expression({0: list(np.array([2, -1])), 2: [1]}, list(np.array([3, 4]))) == (
        "attribute_0 in [2, -1] and attribute_2 in [1] and row not in [3, 4]"
    )
    assert filter_expression({}, ()) == ""
    with pytest.raises(ValueError, match="invalid literal"):
        filter_expression({}, ["0] or row in [0"])


def test_an_approximate_index_is_said_to_be_one(gallery, tmp_path):
    engine = opened(filled(f"milvus:{tmp_path}/shop.db", gallery, index="HNSW"), gallery)
    assert not engine.exact
    assert not exact_search(engine, gallery.vectors[0], 3).exact
    engine.close()
    with pytest.raises(ConfigError, match="index='PQ': it may be FLAT, HNSW"):
        fill_engine(f"milvus:{tmp_path}/other.db", gallery, index="PQ")


def test_a_gallery_that_is_there_is_not_sent_again(shop, gallery, calls):
    filled(shop, gallery)
    assert not {"insert", "delete", "create_collection", "flush"} & set(calls)


def test_another_gallery_is_refused_and_a_collection_of_its_own_helps(shop, gallery):
    other = gallery._replace(fingerprint="another", vectors=gallery.vectors[::-1].copy())
    schema = AttributeSchema(SCHEMA.names, (("blue", "red", "white"), *SCHEMA.values[1:]))
    for act in (lambda: opened(shop, other), lambda: filled(shop, other)):
        with pytest.raises(DataError, match="gallery of another run.*add #NAME"):
            act()
    with pytest.raises(DataError, match="gallery with other attributes or values"):
        opened(shop, gallery._replace(schema=schema))
    with pytest.raises(DataError, match="shop.db#other has no gallery yet; fill it with index.py"):
        opened(f"{shop}#other", other)
    engine = opened(filled(f"{shop}#other", other), other)
    assert (engine.vectors(np.array([0])) == gallery.vectors[-1:]).all()
    engine.close()


def test_a_collection_of_something_else_is_left_alone(tmp_path, gallery):
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import MilvusClient

    path = tmp_path / "shop.db"
    client = MilvusClient(str(path))
    client.create_collection("theirs", dimension=3)
    server_manager_instance.release_server(str(path))
    for act in (opened, filled):
        with pytest.raises(DataError, match="is a collection of something else"):
            act(f"milvus:{path}#theirs", gallery)
    client = MilvusClient(str(path))
    assert client.list_collections() == ["theirs"]
    server_manager_instance.release_server(str(path))


def test_a_folder_that_is_no_engine_is_not_touched(tmp_path, gallery):
    with pytest.raises(DataError, match="missing.db does not exist; fill it with index.py"):
        opened(f"milvus:{tmp_path}/missing.db", gallery)
    (tmp_path / "file.db").write_text("mine")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "folder.db" / "mine.txt").write_text("mine")
    for name in ("file", "folder"):
        for act in (opened, filled):
            with pytest.raises(DataError, match=f"{name}.db is something else than an engine's folder"):
                act(f"milvus:{tmp_path}/{name}.db", gallery)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.db", "folder.db", "mine.txt"]


def test_a_closed_engine_says_so_and_leaves_those_of_others_open(shop, gallery, engine):
    other = opened(shop, gallery)
    other.close()
    other.close()
    with pytest.raises(DataError, match="the connection is closed"):
        other.nearest(gallery.vectors[0], 3, where={}, exclude=())
    assert len(engine.nearest(gallery.vectors[0], 3, where={}, exclude=()).rows) == 3


@pytest.mark.parametrize("package", ["pymilvus", "milvus_lite.server_manager"])
def test_without_its_packages_an_engine_says_what_to_install(shop, gallery, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install 'gradrev_jax\[milvus\]'"):
        opened(shop, gallery)


FILL = """
import os, signal, sys
from gradrev_jax.serving.engines.milvus_client import Connection
from gradrev_jax.serving.engines.opening import fill_engine
from tests.engine_galleries import make_gallery

sent, call = [], Connection.call

def killed(self, name, *arguments, **options):
    sent.append(name)
    if sent.count("insert") == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return call(self, name, *arguments, **options)

Connection.call = killed
fill_engine(sys.argv[1], make_gallery()[1], batch_bytes=4000, progress=False)
"""


def start_filling(text, killed_at):
    return subprocess.Popen(
        [sys.executable, "-c", FILL, text, str(killed_at)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.long
def test_a_filling_that_was_killed_goes_on(tmp_path, made, calls):
    text = f"milvus:{tmp_path}/shop.db"
    with start_filling(text, killed_at=4) as process:
        assert process.wait(60) == -signal.SIGKILL
    with pytest.raises(DataError, match="holds 66 of the 200 rows of its gallery; run index.py again"):
        opened(text, made[1])
    calls.clear()
    engine = opened(filled(text, made[1]), made[1])
    assert (calls.count("insert"), calls.count("delete")) == (7, 0)
    check_as_the_index(made, engine, 8)
    engine.close()


def test_what_is_left_of_a_batch_is_sent_again(tmp_path, made, calls):
    """As a cluster may leave it, which divides a batch among its nodes."""
    text = f"milvus:{tmp_path}/shop.db"
    engine = opened(filled(text, made[1]), made[1])
    engine._connection.call("delete", filter="row >= 66 and row not in [70, 71, 87]")
    calls.clear()
    filled(text, made[1])
    assert (calls.count("insert"), calls.count("delete")) == (7, 1)
    check_as_the_index(made, engine, 8)
    engine.close()


def test_a_folder_that_another_process_has_open_is_named_with_the_way_out(tmp_path, gallery):
    path = tmp_path / "shop.db"
    path.mkdir()
    hold = "f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    command = [sys.executable, "-c", f"import fcntl, sys; {hold}", str(path / "LOCK")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="is open in another process.*milvus-lite server"):
            filled(f"milvus:{path}", gallery)
        holder.communicate("\n")
    opened(filled(f"milvus:{path}", gallery), gallery).close()


@pytest.fixture
def server(made, tmp_path):
    """milvus-lite's server on loopback, of a folder that was filled before, as a URL and its process."""
    filled(f"milvus:{tmp_path}/served.db", made[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "milvus_lite.cmdline", "server"]
    command += [f"--data-dir={tmp_path / 'served.db'}", "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                break
        time.sleep(0.05)
    yield f"milvus:http://127.0.0.1:{port}", process
    process.kill()
    process.wait()


def test_a_server_answers_as_the_embedded_engine_does_and_its_end_is_said(made, server, monkeypatch):
    text, process = server
    engine = opened(text, made[1])
    check_as_the_index(made, engine, 20)
    other = opened(filled(f"{text}#other", made[1]), made[1])
    check_as_the_index(made, other, 8)
    other.close()
    process.kill()
    process.wait()
    monkeypatch.setattr(Connection.call, "__kwdefaults__", {"seconds": 1.0})
    start = time.monotonic()
    with pytest.raises(EngineError, match=r"http://127.0.0.1:\d+: the engine failed at search"):
        engine.nearest(made[1].vectors[0], 3, where={}, exclude=())
    assert time.monotonic() - start < 30  # pymilvus 3.0.0 itself tries for ten seconds
    engine.close()


def test_a_gallery_that_the_engine_has_released_is_loaded_again(made, tmp_path):
    """As a server that was stopped and started again has."""
    engine = opened(filled(f"milvus:{tmp_path}/shop.db", made[1]), made[1])
    engine._connection.call("release_collection")
    check_as_the_index(made, engine, 4)
    engine._connection.call("release_collection")
    np.testing.assert_array_equal(engine.vectors(np.array([3])), made[1].vectors[[3]])
    with pytest.raises(EngineError, match="failed at search"):  # loaded, and yet refused
        engine._ask("search", data=[[0.0]], limit=1, anns_field="vector")
    engine.close()


def test_a_server_that_is_not_there_is_said_so_in_a_few_seconds(gallery, monkeypatch):
    monkeypatch.setattr(milvus_client, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(milvus_client, "PAUSE_SECONDS", 0.01)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        for listens in (False, True):  # refused at once, or never answered
            if listens:
                mute.listen()
            start = time.monotonic()
            with pytest.raises(
                DataError, match=r"does not answer \(3 attempts\).*start the server"
            ) as caught:
                opened(f"milvus:http://user:secret@127.0.0.1:{port}", gallery)
            assert time.monotonic() - start < 3
            assert "secret" not in str(caught.value)
            assert caught.value.arguments == ("engine",)


def test_the_slack_covers_the_rounding_of_sums_in_any_order_and_different_lengths(engine, rng):
    query = np.full(24, 24**-0.5, np.float32)
    rows = np.abs(rng.normal(size=(50, 24))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    errors = []
    for row in rows:
        total = np.float32(0)
        for one, other in zip(query, row, strict=True):
            total = np.float32(total + np.float32(one * other))
        errors.append(abs(float(total) - float(row.astype(np.float64) @ query)))
    equal = engine._about._replace(lengths=Lengths((1.0, 1.0), (0.6, 0.6), (0.8, 0.8)), metric="IP")
    assert 4 * max(errors) < MilvusEngine(engine._connection, equal, "FLAT").slack(query, 1.0) < 1e-4
    lengths = Lengths((1.0, 1.0), (0.0, 1.0), (0.0, 1.0))  # equal as a whole, but not with another factor
    engine = MilvusEngine(engine._connection, equal._replace(lengths=lengths), "FLAT")
    assert engine.slack(query, 1.0) < 1e-4
    assert engine.slack(query, 2.0) > 1 + 2**2
    by_distance = equal._replace(metric="L2", lengths=Lengths((0.0, 3.0), (0.0, 3.0), (0.0, 0.0)))
    assert (
        4 * 4 * max(errors) < MilvusEngine(engine._connection, by_distance, "FLAT").slack(query, 1.0) < 1e-4
    )
