"""Estimates the disk space of a run, and checks that it is free."""

import pathlib
import shutil

from gradrev_jax.data.images.cache_entries import entries
from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs.checkpoints import MOST_CHECKPOINTS
from gradrev_jax.runs.damaged_checkpoints import DAMAGED

MOMENTS = 2  # of Adam, beside each parameter


def checkpoint_bytes(parameter_bytes: int, stages: int) -> int:
    """Returns the size of all checkpoints that a run has at one time, at most, in bytes.

    Args:
      parameter_bytes: the size of the parameters.
      stages: the number of stages.

    Example:
      >>> checkpoint_bytes(100, stages=2)
      3000
    """
    return stages * MOST_CHECKPOINTS * (1 + MOMENTS) * parameter_bytes


def check_room(workdir: pathlib.Path, needed: int) -> None:
    """Raises unless the checkpoints of a run fit on its disk.

    Args:
      workdir: the run's folder, which need not be there.
      needed: the size of all checkpoints that exist at one time, in bytes.

    Raises:
      WorkdirError: they do not, with the sizes.
    """
    there = sum(
        path.stat().st_size
        for path in (workdir / "checkpoints").rglob("*")
        if path.is_file() and DAMAGED not in path.relative_to(workdir).parts
    )
    free = _free(workdir)
    if needed > free + there:
        raise WorkdirError(
            f"{workdir} needs {(needed - there) / 2**30:,.2f} GiB for checkpoints, but "
            f"{free / 2**30:,.2f} GiB are free there; give a --workdir on another disk, or make room"
        )


def describe_use(workdir: pathlib.Path, needed: int, cache: pathlib.Path | None, limit: int | None) -> str:
    """Returns a sentence on the room that a run takes.

    Args:
      workdir: the run's folder, which need not be there.
      needed: the size of all checkpoints that exist at one time, in bytes.
      cache: the folder of the image cache; None: the run has no images.
      limit: the largest size of the image cache, in bytes; None: no limit.

    Example:
      >>> describe_use(pathlib.Path("/"), 3 * 2**20, None, None).partition(" of")[0]
      'the run takes up to 3 MiB in / for checkpoints,'
    """
    run = f"the run takes up to {_mib(needed)} in {workdir} for checkpoints, of {_mib(_free(workdir))} free"
    if cache is None:
        return run
    taken = sum(entry.size for entry in entries(cache))
    most = "" if limit is None else f", up to {_mib(limit)}"
    return f"{run}; the image cache takes {_mib(taken)} in {cache}{most}"


def _free(folder: pathlib.Path) -> int:
    """Returns the number of free bytes on the disk of a folder, which need not be there."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
    return shutil.disk_usage(there).free


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
