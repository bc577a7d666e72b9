"""Several processes that do one run together: how they find each other, and divide work."""

import math
import os
import sys
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Shaped
from tqdm import tqdm

from gradrev_jax.errors import ConfigError, first_line

NETWORK = ("Gloo", "NCCL", "CoordinationService")  # what carries messages between processes


def join(coordinator: str | None, count: int | None, index: int | None, *, cluster: bool = False) -> None:
    """Make this process one of several; before anything else of JAX is used.

    Args:
      coordinator: HOST:PORT of the first process; None: a single process.
      count: of all processes.
      index: which of them this is, from 0.
      cluster: whether a cluster's environment (Slurm, Open MPI, ...) says all that is not given.

    Raises:
      ConfigError: some of the three are given but not all, or the others cannot be reached.
    """
    given = [value is not None for value in (coordinator, count, index)]
    if not any(given) and not cluster:
        return
    if not all(given) and not cluster:
        raise ConfigError("give --coordinator, --num_processes and --process_id together, or --cluster")
    if count is not None and index is not None and not 0 <= index < count:
        raise ConfigError(f"--process_id={index} of --num_processes={count}: it counts from 0")
    # Otherwise JAX takes notice of a SIGTERM, and the process does not end.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes cannot find each other: {first_line(error)}") from error


def missing_device() -> str | None:
    """Returns what is wrong where JAX finds none of the devices that JAX_PLATFORMS asks for; else None."""
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        asked = os.environ.get("JAX_PLATFORMS")
        reason = str(error).partition(" (set JAX_PLATFORMS")[0].strip()
        because = f" ({reason})" if reason else ""
        return (
            f"JAX_PLATFORMS={asked} is set, but JAX finds no such device here{because}. Unset it to use what "
            "JAX finds by itself; for an NVIDIA GPU that it does not find, see that nvidia-smi lists it and "
            "install JAX for it: pip install -c constraints.txt -e '.[cuda12]'"
            if asked
            else f"JAX finds no device{because}; JAX_PLATFORMS=cpu computes on the CPU"
        )
    return None


def joined() -> bool:
    """Whether this is one of several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes the files of a run."""
    return jax.process_index() == 0


def say(note: str) -> None:
    """Prints a note as one line on stderr, from the first of several processes alone.

    Args:
      note: what was recognised, how it is read, and the option that decides otherwise.
    """
    if is_first():
        tqdm.write(f"note: {note}", file=sys.stderr)  # above a progress bar


def wait(name: str) -> None:
    """Wait until all processes have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def share(total: int) -> slice:
    """Which of so many rows this process takes; those of all processes follow each other.

    Example:
      >>> share(10)
      slice(0, 10, None)
    """
    each = math.ceil(total / jax.process_count())
    start = min(jax.process_index() * each, total)
    return slice(start, min(start + each, total))


def gather(own: Shaped[np.ndarray, "m ..."], total: int) -> Shaped[np.ndarray, "M ..."]:
    """All rows, of which each process has its ``share``.

    Example:
      >>> gather(np.arange(3), 3).tolist()
      [0, 1, 2]
    """
    if jax.process_count() == 1:
        return own
    each = math.ceil(total / jax.process_count())
    padded = np.zeros((each, *own.shape[1:]), own.dtype)
    padded[: len(own)] = own
    return np.asarray(multihost_utils.process_allgather(padded, tiled=True))[:total]


def add(tree: Any) -> Any:
    """Sum over processes of each array."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.sum(axis=0), multihost_utils.process_allgather(tree))


def local(tree: Any) -> Any:
    """Arrays that lie whole on devices of all processes, as this process's own."""
    return jax.tree.map(
        lambda leaf: leaf if getattr(leaf, "is_fully_addressable", True) else leaf.addressable_data(0), tree
    )


def lost_another(error: BaseException) -> bool:
    """Whether an error, or what led to it, comes of another process that is gone."""
    cause: BaseException | None = error
    while cause is not None and not _is_of_the_network(cause):
        cause = cause.__cause__ or cause.__context__
    return joined() and cause is not None


def _is_of_the_network(error: BaseException) -> bool:
    """By its kind, or by what it says: where an array is read, what failed comes as a ValueError."""
    return isinstance(error, jax.errors.JaxRuntimeError) or any(name in str(error) for name in NETWORK)
