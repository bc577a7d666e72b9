import importlib

import pytest

trackio = pytest.importorskip("trackio", reason="the extra trackio")


@pytest.fixture(autouse=True)
def storage(tmp_path, monkeypatch):
    """The folder is read from the environment once, when the package is imported."""
    module = importlib.import_module("trackio.sqlite_storage")
    for name in ("sqlite_storage", "utils"):
        monkeypatch.setattr(importlib.import_module(f"trackio.{name}"), "TRACKIO_DIR", tmp_path / "trackio")
    return module.SQLiteStorage


def history(storage, name, run_id=None):
    logs = storage.get_logs("gradrev_jax", "red dresses", run_id=run_id)
    return [(entry["step"], entry[name]) for entry in logs if name in entry]


def test_a_run_is_there_with_its_config_and_its_numbers(run_of, record_of, storage):
    run_of(["trackio"], [record_of(2), record_of(4, accuracy={"size (EU)": 0.5, "领口": 0.25})])
    assert storage.get_runs("gradrev_jax") == ["red dresses"]
    config = storage.get_run_config("gradrev_jax", "red dresses")
    assert (config["seed"], config["stages"], config["data.root"]) == (1, ["encoder"], None)
    assert history(storage, "encoder/loss") == [(2, 0.5)]
    assert history(storage, "encoder/accuracy/size.20..28.EU.29.") == [(4, 0.5)]
    assert history(storage, "encoder/accuracy/领口") == [(4, 0.25)]


def test_a_run_that_goes_on_is_the_same_run_there(run_of, record_of, storage):
    run_of(["trackio"], [record_of(step) for step in (1, 2, 4)])
    run_of(["trackio"], [record_of(step) for step in (4, 8)], first_step=2)
    run_of(["trackio"], [record_of(1, "memory")])
    assert storage.get_runs("gradrev_jax") == ["red dresses"]
    assert history(storage, "encoder/loss") == [(1, 1), (2, 0.5), (4, 0.25), (8, 0.125)]
    assert history(storage, "memory/loss") == [(1, 1)]
    assert storage.get_run_config("gradrev_jax", "red dresses")["seed"] == 1


def test_of_several_runs_with_one_name_the_right_one_goes_on(run_of, record_of, storage):
    import json

    directory = run_of(["trackio"], [record_of(1)])
    first = (directory / "loggers.json").read_text()
    (directory / "loggers.json").unlink()
    run_of(["trackio"], [record_of(1)])  # as that of another folder with the same name
    (directory / "loggers.json").write_text(first)
    run_of(["trackio"], [record_of(2)], first_step=1)
    assert history(storage, "encoder/loss", json.loads(first)["trackio"]["id"]) == [(1, 1), (2, 0.5)]
    assert len(storage.get_runs("gradrev_jax")) == 2
