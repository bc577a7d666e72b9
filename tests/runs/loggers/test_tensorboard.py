import errno
import os

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from gradrev_jax.runs.loggers.logger import Recorded
from gradrev_jax.runs.loggers.tensorboard import TensorBoard


def events(directory):
    """Steps and values by tag, as TensorBoard shows them: what is purged is left out."""
    found = {}
    for path in sorted(directory.iterdir()):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (size,) = np.frombuffer(data[start : start + 8], np.uint64)
            event = Event.FromString(data[start + 12 : start + 12 + int(size)])
            start += 12 + int(size) + 4
            if event.HasField("session_log"):
                found = {
                    tag: {step: value for step, value in steps.items() if step < event.step}
                    for tag, steps in found.items()
                }
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_numbers_go_to_a_folder_per_stage_under_their_path(run_of, record_of):
    run_of(["tensorboard"], [record_of(5, pathways={"color": {"size": 0.25}})])
    directory = run_of(["tensorboard"], [record_of(2, "memory")])
    assert events(directory / "tensorboard" / "encoder") == {"pathways/color/size": {5: 0.25}}
    assert events(directory / "tensorboard" / "memory") == {"loss": {2: 0.5}}
    assert not (directory / "loggers.json").exists()


def test_steps_that_are_done_again_are_purged(run_of, record_of):
    directory = run_of(["tensorboard"], [record_of(step) for step in (2, 4, 8)])
    run_of(["tensorboard"], [record_of(5)], first_step=4)
    assert events(directory / "tensorboard" / "encoder") == {"loss": {2: 0.5, 4: 0.25, 5: pytest.approx(0.2)}}


@pytest.mark.parametrize("now", [1_000_000_000.0, 4e9], ids=["set back", "set forward"])
def test_a_clock_that_is_set_does_not_change_the_order_of_the_files(now, run_of, record_of, monkeypatch):
    directory = run_of(["tensorboard"], [record_of(step) for step in (2, 4, 8)])
    monkeypatch.setattr("gradrev_jax.runs.loggers.tensorboard.time.time", lambda: now)
    run_of(["tensorboard"], [record_of(5)], first_step=4)
    run_of(["tensorboard"], [record_of(6)], first_step=5)
    assert list(events(directory / "tensorboard" / "encoder")["loss"]) == [2, 4, 5, 6]


def test_numbers_are_in_the_file_at_once(tmp_path):
    """A process that is killed after a checkpoint does not write them again."""
    logger = TensorBoard(Recorded(tmp_path, {}))
    logger.begin("encoder", 0)
    for step in range(1, 101):
        logger.write(step, "encoder", {"loss": float(step)})
        assert list(events(tmp_path / "tensorboard" / "encoder")["loss"].values())[-1] == step
    logger.close()


def test_without_loggers_there_is_metrics_jsonl_alone(run_of, record_of):
    directory = run_of([], [record_of(1)])
    assert [path.name for path in directory.iterdir()] == ["metrics.jsonl"]


def test_a_full_disk_costs_its_records_alone(run_of, record_of, monkeypatch, capsys):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    values = {f"loss_{number}": 1.0 for number in range(50)}
    flush = RecordWriter.flush
    flushes = iter([flush, flush, full])
    monkeypatch.setattr(RecordWriter, "flush", lambda file: next(flushes)(file))
    directory = run_of(["tensorboard"], [record_of(step, **values) for step in (2, 4, 6)])
    assert len((directory / "metrics.jsonl").read_text().splitlines()) == 3
    said = capsys.readouterr().err
    assert (
        "tensorboard failed at step 4 of stage encoder: [Errno 28] No space left on device; it gets" in said
    )
