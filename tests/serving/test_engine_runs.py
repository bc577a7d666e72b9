"""A run's gallery in an engine answers as this process does."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from gradrev_jax import Retriever
from gradrev_jax.errors import ConfigError, DataError, WorkdirError
from gradrev_jax.serving.changes import Change
from gradrev_jax.serving.engine_runs import index_run

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["shop_run", "paper_run"])
def shops(request, tmp_path_factory):
    """A retriever of a run, and one that searches in an engine."""
    run = request.getfixturevalue(request.param)
    engine = f"milvus:{tmp_path_factory.mktemp('engine')}/gallery.db"
    here = Retriever.open(run, progress=False)
    assert index_run(run, engine, progress=False) == here.num_items
    there = Retriever.open(run, engine=engine, progress=False)
    yield here, there
    there.close()


def same(expected, found):
    assert found.exact
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-6)
    assert (found.predicted == expected.predicted).all()
    assert (found.wanted == expected.wanted).all()
    assert (found.unwanted == expected.unwanted).all()


def test_edits_filters_and_exclusions_find_the_same(shops):
    here, _ = shops
    schema, rng = here.schema, np.random.default_rng(0)
    for row in range(8):
        name, values = schema.names[row % 2], schema.values[row % 2]
        change = {name: str(rng.choice(values))} if row % 3 else {name: None}
        options = [{}, {"where": {schema.names[1]: [values[0] if row % 2 else None, schema.values[1][0]]}}]
        options += [{"exclude": [row, here.names[row + 1]]}, {"removes": "expected"}]
        for each in options:
            asked = (shop.item(row).change(**change, strength=0.8).search(k=6, **each) for shop in shops)
            same(*asked)
    same(*(shop.item(3).search(k=10**9) for shop in shops))
    for where in (None, {schema.names[0]: schema.values[0][0]}):
        not_first = [Change(schema.names[0], None, unwanted=schema.values[0][:1])]
        same(*(shop.item(3).changes(not_first).search(k=20, where=where) for shop in shops))


def test_every_weight_of_the_look_is_answered_by_the_same_collection(shops):
    here, _ = shops
    if not here.has_look:
        pytest.skip("the run compares no looks")
    for look in (0.0, 0.3, 1.0, 4.0):
        same(*(shop.item(5).search(k=6, look=look) for shop in shops))


def test_what_is_wrong_is_said_as_without_an_engine(shops):
    _, there = shops
    with pytest.raises(ConfigError, match="no attribute is called"):
        there.item(0).search(where={"colour?": "red"})
    with pytest.raises(DataError, match="no image of the gallery is called"):
        there.item(0).search(exclude=["nothing.jpg"])
    there._engine.most_candidates = 3
    with pytest.raises(ConfigError, match="k must be at most 3, which the engine returns"):
        there.item(0).search(k=4)
    del there._engine.most_candidates


@pytest.mark.long
def test_another_way_of_comparing_is_another_gallery(shop_run, tmp_path):
    engine = f"milvus:{tmp_path}/gallery.db"
    index_run(shop_run, engine, progress=False)
    with pytest.raises(DataError, match="gallery of another run, checkpoint, catalogue or way of comparing"):
        Retriever.open(shop_run, engine=engine, protocol={"representation": "features"}, progress=False)


def test_an_engine_that_cannot_be_filled_is_said_before_anything_is_encoded(tmp_path):
    with pytest.raises(ConfigError, match="'milvus:mine' is no engine"):
        index_run(tmp_path / "no run", "milvus:mine")
    (tmp_path / "file.db").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(DataError, match="something else than an engine's folder"):
        index_run(tmp_path / "run", f"milvus:{tmp_path}/file.db")
    with pytest.raises(WorkdirError, match="no run is not a run"):
        index_run(tmp_path / "no run", f"milvus:{tmp_path}/new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.long
def test_the_command_fills_an_engine_and_says_no_more_than_how_many_garments_it_holds(shop_run, tmp_path):
    command = [sys.executable, "index.py", f"--workdir={shop_run}", f"--engine=milvus:{tmp_path}/new/shop.db"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    count = Retriever.open(shop_run, progress=False).num_items
    assert done.stdout == f"milvus:{tmp_path}/new/shop.db holds all {count} garments\n"
    assert "Traceback" not in done.stderr
    assert "\r" not in done.stderr, "a pipe gets no progress bar"
