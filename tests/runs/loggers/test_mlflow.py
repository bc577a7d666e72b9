import pytest

from gradrev_jax.runs.loggers.logger import Recorded
from gradrev_jax.runs.loggers.mlflow import MLflow

mlflow = pytest.importorskip("mlflow", reason="the extra mlflow")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return mlflow.MlflowClient


def runs(client, project="gradrev_jax"):
    return client.search_runs([client.get_experiment_by_name(project).experiment_id])


def history(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def test_a_run_is_there_with_its_config_and_its_numbers(run_of, record_of, store):
    run_of(["mlflow"], [record_of(2), record_of(4, accuracy={"size (EU)": 0.5, "领口": 0.25})])
    client = store()
    (run,) = runs(client)
    assert (run.info.run_name, run.info.status) == ("red dresses", "FINISHED")
    assert run.data.params == {
        "seed": "1",
        "stages": '["encoder"]',
        "data.root": "null",
        "train.learning_rate": "0.0001",
    }
    assert history(client, run, "encoder/loss") == [(2, 0.5)]
    assert history(client, run, "encoder/accuracy/size.20..28.EU.29.") == [(4, 0.5)]
    assert history(client, run, "encoder/accuracy/领口") == [(4, 0.25)]


def test_a_run_that_goes_on_is_the_same_run_there(run_of, record_of, store):
    run_of(["mlflow"], [record_of(step) for step in (1, 2, 4)])
    run_of(["mlflow"], [record_of(step) for step in (4, 8)], first_step=2)
    run_of(["mlflow"], [record_of(1, "memory")])
    client = store()
    (run,) = runs(client)
    assert history(client, run, "encoder/loss") == [(1, 1), (2, 0.5), (4, 0.25), (8, 0.125)]
    assert history(client, run, "memory/loss") == [(1, 1)]


def test_the_environment_names_the_project(run_of, record_of, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "dresses")
    run_of(["mlflow"], [record_of(1)])
    client = store()
    (run,) = runs(client, "dresses")
    assert client.get_experiment_by_name("gradrev_jax") is None
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("by id"))
    (directory := run_of([], [record_of(1)])).joinpath("loggers.json").unlink()
    run_of(["mlflow"], [record_of(1)])
    assert len(runs(client, "by id")) == 1
    assert directory.name == run.info.run_name


def test_more_numbers_than_one_call_takes_are_there(run_of, record_of, store):
    run_of(["mlflow"], [record_of(1, pathways={f"a{number}": number for number in range(1500)})])
    (run,) = runs(store())
    assert len(run.data.metrics) == 1500


def test_a_run_that_failed_says_so(store, tmp_path):
    tracker = MLflow(Recorded(tmp_path, {}))
    tracker.close(failed=True)
    MLflow(Recorded(tmp_path, {}, tracker.id))
    (run,) = runs(store())
    assert run.info.status == "RUNNING"
    tracker.close(failed=True)
    (run,) = runs(store())
    assert run.info.status == "FAILED"


def test_two_runs_may_create_the_project_at_once(store, tmp_path, monkeypatch):
    find, seen = mlflow.MlflowClient.get_experiment_by_name, []

    def late(self, name):
        """Not there at the first look, though the other run has just created it."""
        seen.append(name)
        return find(self, name) if len(seen) > 1 else None

    store().create_experiment("gradrev_jax")
    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
    MLflow(Recorded(tmp_path, {}))
    assert len(runs(store())) == 1
