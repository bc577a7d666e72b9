import errno
import json
import os

import pytest

from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs.metrics_log import MetricsLog


def record(step, **values):
    return {"stage": "encoder", "step": step, "epoch": step / 10, "loss": 1.0, **values}


def test_log_drops_what_is_about_to_be_done_again(tmp_path):
    with MetricsLog(tmp_path, "encoder", 0) as log:
        for step in (5, 10, 15):
            log.write(record(step))
        log.write(record(15, validation_accuracy={"macro": 0.5, "per_attribute": {"color": 0.5}}))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"stage": "enc')  # torn by a killed process
    with MetricsLog(tmp_path, "encoder", 10) as log:
        log.write(record(12))
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [5, 10, 12]


def test_another_stages_records_stay(tmp_path):
    with MetricsLog(tmp_path, "encoder", 0) as log:
        log.write(record(20))
    with MetricsLog(tmp_path, "memory", 0) as log:
        log.write({**record(5), "stage": "memory"})
    with MetricsLog(tmp_path, "memory", 0) as log:
        log.write({**record(3), "stage": "memory"})
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in kept] == [("encoder", 20), ("memory", 3)]


class Full:
    """A file on a disk with room for some bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, content):
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._file.write(content[: self._room])
        self._room -= written
        return written

    def close(self):
        self._file.close()


def test_a_full_disk_is_one_error_and_the_torn_line_is_dropped_later(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(tmp_path, "encoder", 0) as log:
        log.write(record(5))
        log._file = Full(log._file, room=20)
        with pytest.raises(WorkdirError, match=f"^{path} cannot be written: No space left on device; make"):
            log.write(record(10))
    assert len(path.read_bytes().splitlines()[1]) == 20
    with MetricsLog(tmp_path, "encoder", 5) as log:
        log.write(record(10))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10]
