import contextlib
import json
import os
import pathlib
import re
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from gradrev_jax.runs import kept_results
from gradrev_jax.runs.kept_results import RESULTS, digest_of_rows, kept_result


class Computed:
    """A function that counts its calls: each call's result is its number."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"call": self.calls, "numbers": [0.1, 1e-300, None], "names": {"größe": "ä"}}


@pytest.fixture
def ask(tmp_path):
    """Asks for a result of the same function, as often as a test likes."""
    computed = Computed()

    def ask(key, cache=tmp_path):
        found = kept_result(cache, key, computed)
        assert json.loads(json.dumps(found)) == found
        return found

    ask.computed = computed
    return ask


def kept(folder):
    return sorted((folder / RESULTS).glob("*"))


GIVEN = {"f": "name", "x": np.arange(6, dtype=np.float32), "pair": (np.zeros((2, 3), int), None), "k": 5}


def test_a_result_is_computed_once(ask, tmp_path):
    first = ask(GIVEN)
    copies = {name: given.copy() if name == "x" else given for name, given in reversed(GIVEN.items())}
    assert ask(copies) == first
    assert ask.computed.calls == len(kept(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"f": "other"},
        {"k": 6},
        {"x": np.nextafter(np.arange(6, dtype=np.float32), 9)},
        {"x": np.arange(6, dtype=np.int32)},
        {"x": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {"x": np.arange(6, dtype=np.float32)[::-1]},
        {"pair": (np.zeros((3, 2), int), None)},
        {"pair": (np.zeros((2, 3), int), np.zeros((0, 3)))},
        {"more": None},
    ],
)
def test_whatever_it_is_computed_from_decides(ask, change):
    ask(GIVEN)
    assert ask({**GIVEN, **change})["call"] == 2


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a package with one module, in place of the real one."""
    folder = tmp_path / "package"
    (folder / "room").mkdir(parents=True)
    write(folder / "room" / "module.py", "x = 1")
    monkeypatch.setattr(kept_results, "PACKAGE", folder)
    kept_results._code_digest.cache_clear()
    yield folder
    kept_results._code_digest.cache_clear()


def write(path, text, seconds=1.0):
    path.write_text(text)
    os.utime(path, (seconds, seconds))


@pytest.mark.parametrize("what", ["code", "name", "version", "precision", "x64", "flags", "device"])
def test_so_does_what_computes_it(ask, monkeypatch, package, what):
    ask(GIVEN)
    if what == "code":
        write(package / "room" / "module.py", "x = 2")
    elif what == "name":
        (package / "room" / "module.py").rename(package / "module.py")
    elif what == "version":
        monkeypatch.setattr(optax, "__version__", "0")
    elif what == "flags":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    elif what == "device":
        other = SimpleNamespace(platform="gpu", device_kind="another")
        monkeypatch.setattr(jax, "local_devices", lambda: [other])
    if what in ("code", "name"):
        kept_results._code_digest.cache_clear()
    settings = {"precision": jax.default_matmul_precision("bfloat16"), "x64": jax.enable_x64(True)}
    with settings.get(what, contextlib.nullcontext()):
        assert [ask(GIVEN)["call"] for _ in range(2)] == [2, 2]


def test_code_that_was_changed_after_its_import_computed_nothing_that_is_kept(ask, package, tmp_path):
    """Its digest would be that of other code than what runs."""
    write(package / "room" / "other.py", "", seconds=kept_results.IMPORTED + 60)
    assert [ask(GIVEN)["call"] for _ in range(2)] == [1, 2]
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [(rb".*", b""), (rb".*", b"{}"), (rb".*", b"[]"), (rb"0\.1", b"0.2"), (rb"^.", b"\xff"), (b"}$", b"")],
)
def test_what_is_damaged_is_computed_and_kept_anew(ask, tmp_path, damage):
    ask(GIVEN)
    (path,) = kept(tmp_path)
    damaged = re.sub(*damage, path.read_bytes(), count=1, flags=re.DOTALL)
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    assert ask(GIVEN)["call"] == 2
    assert ask(GIVEN)["call"] == 2


def test_what_cannot_be_kept_is_computed(ask, tmp_path):
    (tmp_path / "file").touch()
    assert [ask(GIVEN, cache)["call"] for cache in (tmp_path / "file", tmp_path / "file", None)] == [1, 2, 3]


def test_a_cache_that_is_only_read_serves(ask, monkeypatch):
    ask(GIVEN)
    monkeypatch.setattr(os, "utime", lambda path: (_ for _ in ()).throw(PermissionError(path)))
    assert ask(GIVEN)["call"] == 1


def test_a_result_that_cannot_be_removed_keeps_no_other_from_being_removed(ask, tmp_path, monkeypatch):
    for k in range(3):
        ask({"k": k})
    oldest, _, newest = sorted(kept(tmp_path), key=lambda path: path.stat().st_mtime_ns)
    monkeypatch.setattr(kept_results, "MOST_BYTES", newest.stat().st_size)
    unlink = pathlib.Path.unlink

    def refuse(path):
        if path != oldest:
            raise PermissionError(path)
        unlink(path)

    monkeypatch.setattr(pathlib.Path, "unlink", refuse)
    ask({"k": 3})
    assert oldest not in kept(tmp_path)
    assert len(kept(tmp_path)) == 3


def test_an_error_is_raised_and_nothing_kept(tmp_path):
    def fails():
        raise ValueError("of the function")

    with pytest.raises(ValueError, match="of the function"):
        kept_result(tmp_path, GIVEN, fails)
    assert kept(tmp_path) == []


def test_those_that_were_not_used_for_longest_are_removed(ask, tmp_path, monkeypatch):
    for k in range(3):
        ask({"k": k})
        monkeypatch.setattr(kept_results, "MOST_BYTES", 3 * kept(tmp_path)[0].stat().st_size)
        for path in kept(tmp_path):  # as if a day ago
            used = path.stat().st_mtime_ns - 10**9
            os.utime(path, ns=(used, used))
    assert ask({"k": 0})["call"] == 1  # used again
    ask({"k": 3})
    assert len(kept(tmp_path)) == 3
    assert [ask({"k": k})["call"] for k in (0, 2, 3)] == [1, 3, 4]
    assert ask({"k": 1})["call"] == 5


def test_rows_are_told_apart_by_their_numbers_types_and_shapes(rng, monkeypatch):
    rows = rng.integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    others = [rows[::-1], rows[:6], rows.reshape(7, 2, 8, 3), rows.view(np.int8), rows[:0], rows[:0, :2]]
    digests = [digest_of_rows(each) for each in (rows, *others)]
    assert len(set(digests)) == len(digests)
    monkeypatch.setattr(kept_results, "ROWS_AT_ONCE", 3)
    assert digest_of_rows(rows.copy()) == digests[0]


def test_a_file_of_the_users_own_is_never_removed(ask, tmp_path, monkeypatch):
    own = tmp_path / RESULTS / "mine.json"
    own.parent.mkdir()
    own.write_text("{}")
    os.utime(own, (1, 1))
    monkeypatch.setattr(kept_results, "MOST_BYTES", 0)
    ask(GIVEN)
    assert kept(tmp_path) == [own]
