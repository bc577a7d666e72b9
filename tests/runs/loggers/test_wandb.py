import json
import pathlib
import struct

import pytest

from gradrev_jax.runs.loggers.logger import Recorded
from gradrev_jax.runs.loggers.wandb import WandB

wandb = pytest.importorskip("wandb", reason="the extra wandb")

BLOCK, HEADER = 32768, 7  # of the file of an offline run, which is a log as LevelDB has it


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()  # it reads the environment once
    yield tmp_path
    wandb.teardown()


def read(path):
    """Yields the records of the file of an offline run."""
    from wandb.proto import wandb_internal_pb2

    data, start, whole = path.read_bytes(), HEADER, b""
    while start + HEADER <= len(data):
        if BLOCK - start % BLOCK < HEADER:
            start += BLOCK - start % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[start : start + HEADER])
        whole += data[start + HEADER : start + HEADER + size]
        start += HEADER + size
        if kind in (1, 4):  # whole, or its last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def sessions(folder):
    """What the files of all sessions hold, in their order."""
    wandb.teardown()  # waits for the process that writes them
    told = [list(read(path)) for path in folder.glob("wandb/offline-run-*/*.wandb")]
    return sorted(told, key=lambda records: the_run(records).start_time.ToNanoseconds())


def history(records):
    rows = []
    for record in records:
        if record.HasField("history"):
            items = ((item.key or "/".join(item.nested_key), item) for item in record.history.item)
            rows.append({key: json.loads(item.value_json) for key, item in items})
    return rows


def the_run(records):
    (record,) = [record for record in records if record.HasField("run")][:1]
    return record.run


def config(records):
    return {
        item.key: json.loads(item.value_json)
        for record in records
        if record.HasField("run")
        for item in record.run.config.update
        if item.key != "_wandb"
    }


def test_a_run_is_there_with_its_config_and_its_numbers(run_of, record_of, folder):
    run_of(["wandb"], [record_of(2), record_of(4, accuracy={"size (EU)": 0.5, "领口": 0.25})])
    (records,) = sessions(folder)
    run = the_run(records)
    assert (run.project, run.display_name, run.entity) == ("gradrev_jax", "red dresses", "")
    assert config(records) == {
        "seed": 1,
        "stages": ["encoder"],
        "data.root": None,
        "train.learning_rate": 1e-4,
    }
    first, second = history(records)
    assert (first["encoder/step"], first["encoder/loss"]) == (2, 0.5)
    assert second["encoder/step"] == 4
    assert second["encoder/accuracy/size.20..28.EU.29."] == 0.5
    assert second["encoder/accuracy/领口"] == 0.25
    axes = {record.metric.glob_name: record.metric.step_metric for record in records}
    assert axes["encoder/*"] == "encoder/step"
    (ended,) = [record.exit.exit_code for record in records if record.HasField("exit")]
    assert ended == 0


def test_a_run_that_goes_on_is_the_same_run_there(run_of, record_of, folder):
    run_of(["wandb"], [record_of(step) for step in (1, 2, 4)])
    run_of(["wandb"], [record_of(step) for step in (4, 8)], first_step=2)
    run_of(["wandb"], [record_of(1, "memory")])
    told = sessions(folder)
    assert len({the_run(records).run_id for records in told}) == 1
    rows = [row for records in told for row in history(records)]
    assert [row["_step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [(row["encoder/step"], row["encoder/loss"]) for row in rows[:4]] == [
        (1, 1),
        (2, 0.5),
        (4, 0.25),
        (8, 0.125),
    ]
    assert (rows[4]["memory/step"], rows[4]["memory/loss"]) == (1, 1)
    assert [config(records).get("seed") for records in told] == [1, None, None]


def test_the_environment_names_the_project(run_of, record_of, folder, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "dresses")
    monkeypatch.setenv("WANDB_NAME", "the first")
    run_of(["wandb"], [record_of(1)])
    run = the_run(sessions(folder)[0])
    assert (run.project, run.display_name) == ("dresses", "the first")


def test_a_run_that_failed_says_so_and_the_callers_own_run_goes_on(folder):
    own = wandb.init(project="own")
    WandB(Recorded(pathlib.Path("mine"), {})).close(failed=True)
    own.log({"loss": 1})
    own.finish()
    codes = {
        the_run(records).project: [record.exit.exit_code for record in records if record.HasField("exit")]
        for records in sessions(folder)
    }
    assert codes == {"own": [0], "gradrev_jax": [1]}
