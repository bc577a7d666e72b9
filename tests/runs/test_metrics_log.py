import errno
import json
import os
import re

import pytest

from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs.metrics_log import MetricsLog, read_records


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"stage": "enc\xffoder", "step": 5}', "line 2 is damaged: 'ascii' codec can't decode"),
        (b'{"stage": "encoder" "step": 5}', "line 2 is damaged: Expecting ',' delimiter"),
        (b"[5]", "line 2 is damaged: it is no record; remove the line"),
        (b"[" * 100_000, "line 2 is damaged: maximum recursion depth"),
        (b'{"step": 5}', "whose field 'stage' is no str; remove its line"),
        (b'{"stage": "encoder", "step": "5"}', "whose field 'step' is no int; remove its line"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_written(tmp_path, line, message):
    path = tmp_path / "metrics.jsonl"
    content = b"\n".join([json.dumps(record(4)).encode(), line, json.dumps(record(6)).encode(), b""])
    path.write_bytes(content)
    with pytest.raises(WorkdirError, match=re.escape(message)) as caught:
        MetricsLog(tmp_path, "encoder", 6)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_line_may_have_the_line_ends_of_other_systems_within(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"note": "a\\u2028b", "step": 1}\n')
    assert read_records(tmp_path / "metrics.jsonl") == [{"note": "a\u2028b", "step": 1}]
