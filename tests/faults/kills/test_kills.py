"""Runs that are killed and started again with the same command end as if nothing had happened."""

import ast
import json
import random
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from configs import garments
from gradrev_jax.training.run import train
from tests.faults import kill
from tests.faults.kills.outcome import differences, outcome, read_events, repeated_steps
from tests.faults.kills.phases import PHASES
from tests.faults.kills.place import TRAINED, Place
from tests.faults.kills.trials import Trial, plan

PHASE = {phase.name: phase for phase in PHASES}
SMALL = ("stages=('encoder',)", "data.count=80", "data.test_fraction=0.4", "train.checkpoint_every=2")


def train_here(place):
    """Trains as the command would, but in this process, which is quicker."""
    config = garments.get_config()
    for field in place.fields:
        name, _, text = field.partition("=")
        *section, name = name.split(".")
        part = config[section[0]] if section else config
        try:
            part[name] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            part[name] = text
    train(config, place.run, progress=False)


@pytest.mark.long
def test_a_killed_run_ends_as_one_that_was_not(tmp_path):
    whole, place = (Place(tmp_path / name, TRAINED, tmp_path, SMALL) for name in ("whole", "killed"))
    train_here(whole)
    trial = Trial(0, place, random.Random(0))
    for name in ("encoder checkpoint", "encoder step"):
        trial.kill_in(PHASE[name])
    train_here(place)
    trial.compare(outcome(whole))
    assert trial.faults == []
    assert len(trial.kills) == 2


@pytest.mark.slow
def test_runs_that_are_killed_in_every_phase_end_as_one_that_was_not(tmp_path):
    out = tmp_path / "kills.json"
    assert kill.main(["--kills=14", "--seed=1", f"--out={out}", f"--keep={tmp_path / 'runs'}"]) == 0
    record = json.loads(out.read_text())
    assert record["kills"] == 14
    assert len(record["by_phase"]) >= 6


def test_what_differs_is_named():
    wanted = {"a": {"b": 1, "c": [1, 2]}, "d": "same", "e": 0}
    assert differences(wanted, wanted) == []
    assert differences(wanted, {"a": {"b": 2, "c": [1]}, "d": "same", "f": 0}) == [
        "a/b is 2, not 1",
        "a/c has 1 entries, not 2; gone [2], new []",
        "e is missing",
        "f is new",
    ]
    assert differences([{"x": 1.0}], [{"x": 1.5}], "log") == ["log[0]/x is 1.5, not 1.0"]


def test_a_step_that_is_recorded_twice_is_named(tmp_path):
    place = Place(tmp_path, TRAINED, tmp_path)
    place.run.mkdir()
    records = [
        {"stage": "encoder", "step": 1, "loss": 1.0},
        {"stage": "encoder", "step": 1, "validation_accuracy": 0.5},
        {"stage": "memory", "step": 1, "loss": 1.0},
        {"stage": "encoder", "step": 1, "loss": 1.0},
    ]
    (place.run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert repeated_steps(place) == ["metrics.jsonl has loss of step 1 of encoder twice"]


def test_torn_events_are_left_out(tmp_path):
    path, content = tmp_path / "events", Event(step=3).SerializeToString()
    whole = struct.pack("<QI", len(content), 0) + content + bytes(4)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole + whole[:cut])
        assert [event.step for event in read_events(path)] == [3] * (1 + (cut == len(whole)))


def test_every_trial_has_every_phase_but_the_last():
    trials = plan(32, PHASES, random.Random(0))
    assert [len(trial) for trial in trials] == [14, 14, 4]
    assert trials[0] == trials[1] == list(PHASES)
    assert [PHASES.index(phase) for phase in trials[2]] == sorted(PHASES.index(phase) for phase in trials[2])
