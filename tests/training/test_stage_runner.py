import contextlib
import dataclasses
import json
import re
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.errors import DivergedError
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.workdir import checkpoint_directory
from gradrev_jax.training import stage_observer
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.stage import Batch, RunOptions, Stage
from gradrev_jax.training.stage_runner import run_stage
from gradrev_jax.training.stopping import TrainingStopped, ValidationStopped
from gradrev_jax.training.update import TrainState
from gradrev_jax.training.validation import Validation


class Loss(NamedTuple):
    loss: jnp.ndarray


def counting(last_step=10, bad_steps=(), accuracies=None, bad="loss"):
    """A stage whose parameter counts its steps, with a loss of one over them; some steps are not finite."""
    validated = []

    def update(state, images, targets, shard=None):
        done = state.params["x"] + 1
        is_bad = jnp.isin(state.step + 1, jnp.array(bad_steps))
        moment = jnp.where(is_bad & (bad == "moment"), jnp.inf, state.opt_state["m"])
        loss = jnp.where(is_bad & (bad == "loss"), jnp.nan, 1 / done)
        return TrainState(state.step + 1, {"x": done}, {"m": moment}), Loss(loss)

    def validate(params):
        validated.append(float(params["x"]))
        if accuracies is None:
            return Validation({}, None)
        value = accuracies[len(validated) - 1]
        return Validation({"validation_accuracy": {"macro": value}}, value)

    stage = Stage(
        name="count",
        begin=lambda: TrainState(jnp.zeros((), jnp.int32), {"x": jnp.zeros(())}, {"m": jnp.zeros(())}),
        update=update,
        inputs=np.zeros((8, 2, 2, 3), np.uint8),
        batch=lambda step: Batch(np.arange(8), np.zeros(8)),
        record=lambda metrics: {"loss_cls": float(metrics.loss)},
        validate=validate,
        schedule=lambda index: 0.1 * index,
        batch_size=8,
        epoch_steps=4,
        last_step=last_step,
        advice="lower it",
    )
    return stage, validated


def run(stage, directory, **settings):
    options = {"log_every": 3, "progress": False, **settings}
    return run_stage(stage, directory, RunOptions(Parallel.over(batch=8), **options))


def records(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def steps_there(directory):
    with Checkpoints(checkpoint_directory(directory, "count"), read_only=True) as checkpoints:
        return checkpoints.steps, checkpoints.best_step


def test_it_logs_validates_and_saves_when_it_should(tmp_path):
    stage, validated = counting(accuracies=[0.5, 0.9, 0.7])
    state = run(stage, tmp_path)
    assert float(state.params["x"]) == int(state.step) == 10
    assert validated == [4, 8, 10]
    logged = [record for record in records(tmp_path) if "loss" in record]
    assert [record["step"] for record in logged] == [3, 4, 6, 8, 9, 10]
    assert [record["loss"] for record in logged] == pytest.approx([1 / record["step"] for record in logged])
    assert [record["learning_rate"] for record in logged] == pytest.approx(
        [0.1 * (record["step"] - 1) for record in logged]
    )
    assert {record["stage"] for record in logged} == {"count"}
    assert steps_there(tmp_path) == ((8, 10), 8)


def test_where_no_line_can_be_drawn_over_each_epoch_gets_a_line(tmp_path, capsys):
    run(counting(accuracies=[0.5, 0.9, 0.7])[0], tmp_path, progress=True)
    lines = capsys.readouterr().err.split("\n")
    speeds = [re.search(r", images_per_second [\d.e+]+;", line)[0] for line in lines[:-1]]
    assert [line.replace(speed, ";") for line, speed in zip(lines, speeds, strict=False)] == [
        "count: step 4 of 10, epoch 1; loss_cls 0.25; 0.5 on the held-out part",
        "count: step 8 of 10, epoch 2; loss_cls 0.125; 0.9 on the held-out part",
        "count: step 10 of 10, epoch 2.5; loss_cls 0.1; 0.7 on the held-out part",
    ]
    run(counting(last_step=14)[0], tmp_path, progress=False)
    assert capsys.readouterr().err == ""


def test_an_epoch_of_hours_gets_a_line_now_and_then(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stage_observer, "PATIENCE", 0.0)
    run(counting()[0], tmp_path, progress=True)
    told = [re.match(r"count: step (\d+)", line)[1] for line in capsys.readouterr().err.splitlines()]
    assert told == ["3", "4", "6", "8", "9", "10"]


def test_it_ends_early_when_it_gets_no_better(tmp_path):
    stage, validated = counting(last_step=40, accuracies=[0.5, 0.9, 0.7, 0.6, 1.0, 1.0])
    state = run(stage, tmp_path, patient_steps=8)
    assert validated == [4, 8, 12, 16]
    assert int(state.step) == 16
    assert steps_there(tmp_path) == ((8, 12, 16), 8)
    again, validated = counting(last_step=40, accuracies=[])
    assert int(run(again, tmp_path, patient_steps=8).step) == 16
    assert not validated
    more, validated = counting(last_step=40, accuracies=[1.0, 0.1, 0.1, 0.1])
    assert int(run(more, tmp_path, patient_steps=12).step) == 32, "with more patience it goes on"


@pytest.mark.parametrize("patient_steps", [None, 100])
def test_without_patience_no_step_waits_for_a_checkpoint_to_be_written(tmp_path, monkeypatch, patient_steps):
    """The scores of checkpoints, which early stopping asks for, can be told once the last is written."""
    asked = []
    monkeypatch.setattr(stage_observer, "is_over", lambda *arguments: asked.append(arguments) and False)
    assert int(run(counting(last_step=10)[0], tmp_path, patient_steps=patient_steps).step) == 10
    assert bool(asked) == (patient_steps is not None)


def test_it_goes_on_from_its_checkpoint(tmp_path):
    run(counting(last_step=6)[0], tmp_path)
    stage, validated = counting(last_step=10)
    state = run(stage, tmp_path)
    assert float(state.params["x"]) == 10
    assert validated == [8, 10]


def assert_diverges(stage, directory, message, *, kept, **settings):
    with pytest.raises(DivergedError) as raised:
        run(stage, directory, **settings)
    assert str(raised.value) == f"training diverged: {message}. In a new --workdir, lower it."
    assert steps_there(directory)[0] == (kept,)
    assert np.isfinite([record["loss"] for record in records(directory) if "loss" in record]).all()


@pytest.mark.long
@pytest.mark.parametrize("at_once", [1, 3, 8])
@pytest.mark.parametrize("bad_steps", [[7], [7, 8, 9]])
def test_the_first_step_whose_loss_is_not_finite_is_named_and_nothing_after_it_saved(
    bad_steps, at_once, tmp_path
):
    """Whether or not it is recorded, and whether or not the steps after it are finite again."""
    stage, validated = counting(bad_steps=bad_steps)
    message = "at step 7 of stage count loss = nan, loss_cls = nan; the checkpoint of step 4 is kept"
    assert_diverges(stage, tmp_path, message, kept=4, log_every=100, steps_per_call=at_once)
    assert validated == [4]


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_moment_that_is_not_finite_is_never_saved_though_the_losses_are(at_once, tmp_path):
    stage, _ = counting(bad_steps=[6], bad="moment")
    message = (
        "after step 8 of stage count the parameters, or their moments, are not finite; the checkpoint of "
        "step 4 is kept"
    )
    assert_diverges(stage, tmp_path, message, kept=4, log_every=100, steps_per_call=at_once)


def test_the_last_good_checkpoint_is_gone_on_from(tmp_path):
    with pytest.raises(DivergedError, match="the checkpoint of step 6 is kept"):
        run(counting(bad_steps=[7])[0], tmp_path, checkpoint_every=1)
    state = run(counting()[0], tmp_path)
    assert float(state.params["x"]) == int(state.step) == 10


def after(calls):
    """Says that it is to stop when it is asked for the (calls + 1)-th time."""
    answers = iter([False] * calls + [True])
    return lambda: next(answers)


@pytest.mark.long
@pytest.mark.parametrize(("steps_per_call", "calls", "step"), [(1, 0, 0), (1, 3, 3), (1, 4, 4), (3, 3, 7)])
def test_it_stops_between_calls_with_all_steps_saved(tmp_path, steps_per_call, calls, step):
    first, before = counting(accuracies=[0.5, 0.6, 0.7])
    with pytest.raises(TrainingStopped, match=f"^stopped after step {step} of stage count, ") as stopped:
        run(first, tmp_path, steps_per_call=steps_per_call, stop=after(calls))
    assert (stopped.value.stage, stopped.value.step) == ("count", step)
    assert steps_there(tmp_path)[0][-1:] == ((step,) if step else ())
    second, then = counting(accuracies=[0.5, 0.6, 0.7][len(before) :])
    assert float(run(second, tmp_path, steps_per_call=steps_per_call).params["x"]) == 10
    assert before + then == [4, 8, 10]
    run(counting(accuracies=[0.5, 0.6, 0.7])[0], tmp_path / "whole", steps_per_call=steps_per_call)
    assert [stepped(record) for record in records(tmp_path)] == [
        stepped(record) for record in records(tmp_path / "whole")
    ]


def stepped(record):
    return record["step"], record.get("loss"), "validation_accuracy" in record


def test_after_its_last_step_it_does_not_stop(tmp_path):
    assert int(run(counting(last_step=3)[0], tmp_path, stop=after(3)).step) == 3


def test_a_diverged_step_is_not_saved_when_it_stops(tmp_path):
    with pytest.raises(DivergedError):
        run(counting(bad_steps=[2])[0], tmp_path, stop=after(2))
    assert steps_there(tmp_path)[0] == ()


@pytest.mark.parametrize("first", [4, 10])
def test_a_validation_that_was_given_up_is_done_when_the_stage_goes_on(tmp_path, first):
    def give_up(params):
        if float(params["x"]) == first:
            raise ValidationStopped
        return Validation({}, 0.1)

    stopped = dataclasses.replace(counting()[0], validate=give_up)
    with pytest.raises(TrainingStopped, match=f"after step {first} "):
        run(stopped, tmp_path)
    assert steps_there(tmp_path)[0][-1] == first
    stage, validated = counting(accuracies=[0.9, 0.2, 0.3])
    run(stage, tmp_path)
    assert validated == ([4, 8, 10] if first == 4 else [10])
    assert steps_there(tmp_path)[1] == first
    logged = [record["step"] for record in records(tmp_path) if "validation_accuracy" in record]
    assert logged == validated


def test_a_validation_without_a_score_is_not_done_twice(tmp_path):
    """That of a memory, where the latest is taken and not the best."""
    validated = []

    def validate(params):
        validated.append(float(params["x"]))
        return Validation({"validation_accuracy": {"macro": 0.5}}, None)

    def stage():
        return dataclasses.replace(counting()[0], validate=validate)

    with pytest.raises(TrainingStopped):
        run(stage(), tmp_path, stop=after(8))
    run(stage(), tmp_path)
    assert validated == [4, 8, 10]
    logged = [record["step"] for record in records(tmp_path) if "validation_accuracy" in record]
    assert logged == validated


def test_there_is_work_to_lose_from_the_first_step_until_all_is_written(tmp_path):
    seen = []

    @contextlib.contextmanager
    def during_steps():
        seen.append("begun")
        yield
        seen.append(steps_there(tmp_path)[0][-1])

    run(counting()[0], tmp_path, during_steps=during_steps)
    assert seen == ["begun", 10]


def with_shapes(stage):
    """The stage with the shapes of its state, so that its steps are compiled before there is one."""
    return dataclasses.replace(stage, shapes=jax.eval_shape(stage.begin))


@pytest.mark.long
@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_steps_that_are_compiled_ahead_are_those_of_the_calls(tmp_path, steps_per_call):
    traced = []

    def run_counted(stage, directory):
        update = stage.update

        def counted(*arguments):
            traced.append(directory)
            return update(*arguments)

        return run(dataclasses.replace(stage, update=counted), directory, steps_per_call=steps_per_call)

    later = run_counted(counting()[0], tmp_path / "later")
    ahead = run_counted(with_shapes(counting()[0]), tmp_path / "ahead")
    jax.tree.map(np.testing.assert_array_equal, later, ahead)
    assert traced.count(tmp_path / "ahead") == traced.count(tmp_path / "later")
    assert [record["loss"] for record in records(tmp_path / "later")] == [
        record["loss"] for record in records(tmp_path / "ahead")
    ]


def test_the_first_state_is_computed_while_the_steps_are_compiled(tmp_path):
    stage, _ = counting()
    update, begin, compiling = stage.update, stage.begin, threading.Event()

    def signalling(*arguments):
        compiling.set()
        return update(*arguments)

    def waiting():
        assert compiling.wait(60)
        return begin()

    stage = dataclasses.replace(with_shapes(stage), update=signalling, begin=waiting)
    assert float(run(stage, tmp_path).params["x"]) == 10


def test_a_stage_that_is_over_is_not_compiled_again(tmp_path):
    """After its patience had ended it, it was compiled on every start, for no step."""
    stage, _ = counting(last_step=40, accuracies=[0.5, 0.4, 0.3])
    assert int(run(stage, tmp_path, patient_steps=8).step) == 12

    def update(*arguments):
        raise AssertionError("it is traced")

    over = dataclasses.replace(with_shapes(stage), update=update)
    assert int(run(over, tmp_path, patient_steps=8).step) == 12
    with pytest.raises(AssertionError, match="it is traced"):
        run(over, tmp_path, patient_steps=12)


def test_a_first_state_that_cannot_be_computed_is_an_error_of_the_stage(tmp_path):
    def fail():
        raise DivergedError("no first state")

    with pytest.raises(DivergedError, match="no first state"):
        run(dataclasses.replace(with_shapes(counting()[0]), begin=fail), tmp_path)
