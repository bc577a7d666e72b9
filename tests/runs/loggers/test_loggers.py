import json
import warnings

import pytest

from gradrev_jax import distributed
from gradrev_jax.errors import ConfigError, WorkdirError
from gradrev_jax.runs.loggers import loggers, registry
from gradrev_jax.runs.loggers.loggers import open_loggers


class Told:
    """A tracker that remembers what it was told."""

    package = "json"

    def __init__(self, run):
        self.opened, self.id, self.told, self.closed = run, run.id or f"id {len(Told.all)}", [], None
        Told.all.append(self)

    def begin(self, stage, first_step):
        self.first = (stage, first_step)

    def write(self, step, stage, values):
        self.told.append((step, stage, dict(values)))

    def close(self, *, failed):
        self.closed = failed


class Failing(Told):
    """A tracker that fails in one of its functions."""

    where = ""

    def fail(self, where):
        if Failing.where == where:
            raise OSError("no network\nat all")

    def __init__(self, run):
        self.fail("open")
        super().__init__(run)

    def begin(self, stage, first_step):
        self.fail("begin")

    def write(self, step, stage, values):
        if step == 2:
            self.fail("write")
        super().write(step, stage, values)

    def close(self, *, failed):
        self.fail("close")
        super().close(failed=failed)


@pytest.fixture(autouse=True)
def trackers(monkeypatch):
    Told.all = []
    for name, kind in (("told", Told), ("failing", Failing)):
        monkeypatch.setitem(registry.LOGGERS, name, kind)
    return Told.all


@pytest.fixture
def fails_at(monkeypatch):
    return lambda where: monkeypatch.setattr(Failing, "where", where)


@pytest.fixture
def said(monkeypatch):
    notes = []
    monkeypatch.setattr(loggers, "say", notes.append)
    return notes


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_tracker_is_told_the_run_and_the_numbers_under_their_path(run_of, record_of, trackers):
    directory = run_of(["told"], [record_of(5, pathways={"color": {"size": 0.25}}, kind="swap")])
    (tracker,) = trackers
    assert tracker.opened.directory == directory
    assert tracker.opened.name == "red dresses"
    assert tracker.opened.config["seed"] == 1
    assert tracker.first == ("encoder", 0)
    assert tracker.told == [(5, "encoder", {"pathways/color/size": 0.25})]
    assert tracker.closed is False


def test_a_run_that_goes_on_is_the_same_run_and_tells_no_step_twice(run_of, record_of, trackers):
    run_of(["told"], [record_of(step) for step in (5, 10, 15)])
    directory = run_of(["told"], [record_of(step) for step in (12, 15, 18)], first_step=10)
    assert [tracker.opened.id for tracker in trackers] == [None, "id 0"]
    assert [tracker.opened.records for tracker in trackers] == [0, 3]
    assert [step for tracker in trackers for step, _, _ in tracker.told] == [5, 10, 15, 18]
    assert [record["step"] for record in lines(directory)] == [5, 10, 12, 15, 18]


def test_two_interruptions_tell_no_step_twice(run_of, record_of, trackers):
    for first_step, steps in ((0, (5, 15)), (0, (5,)), (0, (5, 15, 20))):
        run_of(["told"], [record_of(step) for step in steps], first_step=first_step)
    assert [step for tracker in trackers for step, _, _ in tracker.told] == [5, 15, 20]


def test_two_records_of_one_step_are_told_each_once(run_of, record_of, trackers):
    trained, validated = record_of(8), record_of(8, validation_accuracy={"macro": 0.5})
    run_of(["told"], [trained])  # killed before the other
    run_of(["told"], [trained, validated])
    assert [values for tracker in trackers for _, _, values in tracker.told] == [
        {"loss": 0.125},
        {"validation_accuracy/macro": 0.5},
    ]


def test_the_steps_of_one_stage_are_not_those_of_another(run_of, record_of, trackers):
    run_of(["told"], [record_of(20)])
    run_of(["told"], [record_of(5, "memory")])
    assert [(step, stage) for tracker in trackers for step, stage, _ in tracker.told] == [
        (20, "encoder"),
        (5, "memory"),
    ]


def test_a_tracker_that_comes_later_is_told_what_it_has_missed(run_of, record_of, trackers):
    run_of([], [record_of(5), record_of(15)])
    run_of(["told"], [record_of(10)], first_step=5)
    assert [step for step, _, _ in trackers[0].told] == [5, 10]


@pytest.mark.parametrize(
    ("where", "steps", "note"),
    [
        ("begin", [], "failing failed at the start of stage encoder: no network; it gets no more records"),
        ("write", [1], "failing failed at step 2 of stage encoder: no network; it gets no more records"),
        ("close", [1, 2, 3], "failing failed at the end of the run: no network; it gets no more records"),
    ],
)
def test_a_tracker_that_fails_ends_nothing(run_of, record_of, trackers, fails_at, said, where, steps, note):
    fails_at(where)
    directory = run_of(["failing", "told"], [record_of(step) for step in (1, 2, 3)])
    failing, told = trackers
    assert [step for step, _, _ in failing.told] == steps
    assert [step for step, _, _ in told.told] == [record["step"] for record in lines(directory)] == [1, 2, 3]
    assert told.closed is False
    assert said == [f"{note} now, metrics.jsonl has all"]


def test_a_disk_that_is_full_ends_nothing(run_of, record_of, trackers, said, monkeypatch):
    monkeypatch.setattr(loggers, "replace_file", lambda *arguments: 1 / 0)
    directory = run_of(["told"], [record_of(1)])
    assert lines(directory) == [record_of(1)]
    assert said == [
        "told failed at the start of stage encoder: division by zero; it gets no more records now, "
        "metrics.jsonl has all"
    ]


def test_a_tracker_of_a_new_run_that_cannot_be_opened_is_an_error_before_anything_is_written(
    run_of, record_of, trackers, fails_at, tmp_path
):
    fails_at("open")
    with pytest.raises(
        ConfigError, match="^train.loggers: failing cannot be opened: no network; or leave failing out$"
    ):
        run_of(["told", "failing"], [record_of(1)])
    assert trackers[0].closed is True
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_without_a_tracker_that_cannot_be_opened(run_of, record_of, fails_at, said):
    fails_at("open")
    directory = run_of(["failing"], [record_of(1)], has_begun=True)
    assert lines(directory) == [record_of(1)]
    assert said == [
        "failing cannot be opened: no network; it gets no records now, metrics.jsonl has all",
    ]


def test_trackers_know_that_a_run_has_failed(tmp_path, trackers):
    with (
        pytest.raises(KeyboardInterrupt),
        open_loggers(["told"], tmp_path / "run", {}, has_begun=False),
    ):
        raise KeyboardInterrupt
    assert trackers[0].closed is True


def test_only_the_first_process_tells(run_of, record_of, trackers, monkeypatch):
    monkeypatch.setattr(loggers, "is_first", lambda: False)
    assert not distributed.is_multi_process()
    run_of(["told", "tensorboard"], [record_of(1)])
    assert not trackers


def test_warnings_of_a_tracker_are_no_errors(run_of, record_of, trackers, monkeypatch):
    write = Told.write

    def warn_and_write(self, *told):
        warnings.warn("old", FutureWarning, stacklevel=1)
        write(self, *told)

    monkeypatch.setattr(Told, "write", warn_and_write)
    run_of(["told"], [record_of(1)])
    assert len(trackers[0].told) == 1


@pytest.mark.parametrize("damage", ["{", "[]", '{"told": 1}', '{"told": {"id": "a"}}'])
def test_a_damaged_list_of_trackers_is_named(tmp_path, damage):
    (tmp_path / "loggers.json").write_text(damage)
    with (
        pytest.raises(WorkdirError, match=r"loggers\.json cannot be read \(.*; remove it, and"),
        open_loggers([], tmp_path, {}, has_begun=False),
    ):
        pass


def test_a_package_that_is_missing_or_broken_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(registry.LOGGERS["wandb"], "package", "not_there")
    with pytest.raises(
        ConfigError,
        match=r"^train.loggers: wandb needs the package not_there, which is not installed; install it with "
        r"pip install 'gradrev_jax\[wandb\]' \(in a checkout, pip install -e '.\[wandb\]'\), or leave "
        "wandb out$",
    ):
        registry.check_loggers(["tensorboard", "wandb"])
    (tmp_path / "broken_tracker.py").write_text("import not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry.LOGGERS["mlflow"], "package", "broken_tracker")
    with pytest.raises(ConfigError, match=r"which cannot be imported \(No module named 'not_there'\); "):
        registry.check_loggers(["mlflow"])
