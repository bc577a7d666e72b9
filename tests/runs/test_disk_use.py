from types import SimpleNamespace

import pytest

from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs import disk_use


def test_checkpoints_that_do_not_fit_are_refused_with_the_sizes(tmp_path, monkeypatch):
    usage = SimpleNamespace(free=5 * 2**30)
    monkeypatch.setattr(disk_use.shutil, "disk_usage", lambda folder: usage)
    run = tmp_path / "not" / "there"
    disk_use.check_room(run, 5 * 2**30)
    with pytest.raises(WorkdirError, match=r"needs 6.00 GiB for checkpoints, but 5.00 GiB are free there"):
        disk_use.check_room(run, 6 * 2**30)
    (run / "checkpoints" / "encoder").mkdir(parents=True)
    with (run / "checkpoints" / "encoder" / "step_1").open("wb") as file:
        file.truncate(2**30)  # what is there makes way for what comes
    disk_use.check_room(run, 6 * 2**30)
    damaged = run / "checkpoints" / "encoder" / "damaged"
    damaged.mkdir()
    (run / "checkpoints" / "encoder" / "step_1").rename(
        run / "checkpoints" / "encoder" / "damaged" / "step_1"
    )
    with pytest.raises(WorkdirError, match="5.00 GiB are free"):  # what is damaged stays
        disk_use.check_room(run, 6 * 2**30)


def test_what_a_run_takes_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_use.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5 * 2**30))
    needed = disk_use.checkpoint_bytes(2**20, stages=2)
    checkpoints = 2 + 2 + 1  # the latest two, the best, the first that was as good, and the next
    assert needed == 2 * checkpoints * 3 * 2**20, "with two moments"
    run = f"the run takes up to 30 MiB in {tmp_path / 'run'} for checkpoints, of 5,120 MiB free"
    assert disk_use.describe_use(tmp_path / "run", needed, None, None) == run
    (tmp_path / "other.npy").write_bytes(bytes(2**20))
    (tmp_path / ("0" * 32 + ".npy")).write_bytes(bytes(3 * 2**20))
    cache = f"{run}; the image cache takes 3 MiB in {tmp_path}"
    assert disk_use.describe_use(tmp_path / "run", needed, tmp_path, None) == cache
    assert disk_use.describe_use(tmp_path / "run", needed, tmp_path, 2**30) == f"{cache}, up to 1,024 MiB"
