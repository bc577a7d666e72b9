"""Multi-process runs: connects the processes, divides rows among them and combines their results."""

import math
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Shaped

from gradrev_jax.errors import ConfigError, first_line
from gradrev_jax.progress import tell

NETWORK = ("Gloo", "NCCL", "CoordinationService")  # names in the errors of the layers between processes
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # in the error of a device


def initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, cluster: bool = False
) -> None:
    """Connects this process with the others of a run; must be called before any other use of JAX.

    Args:
      coordinator: the address of the first process, HOST:PORT; None: a single process.
      num_processes: the number of processes.
      process_id: the index of this process, from 0.
      cluster: whether the environment of a cluster (Slurm, Open MPI, ...) supplies the values not given.

    Raises:
      ConfigError: only some of the three are given, or the other processes cannot be reached.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if not any(given) and not cluster:
        return
    if not all(given) and not cluster:
        raise ConfigError("give --coordinator, --num_processes and --process_id together, or --cluster")
    if num_processes is not None and process_id is not None and not 0 <= process_id < num_processes:
        raise ConfigError(
            f"--process_id={process_id} of --num_processes={num_processes}: give 0 to {num_processes - 1}"
        )
    # With this service JAX catches SIGTERM, and the process does not end.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes cannot find each other: {first_line(error)}") from error


def missing_device() -> str | None:
    """Returns an error message if JAX finds no device of the platforms in JAX_PLATFORMS, otherwise None."""
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


def is_multi_process() -> bool:
    """Returns whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Returns whether this is the first process, which writes the files of a run."""
    return jax.process_index() == 0


def say(note: str) -> None:
    """Prints a note as one line on stderr, from the first process only.

    Args:
      note: the text: what was recognised, how it is read, and the option that changes this.
    """
    if is_first():
        tell(f"note: {note}")


def barrier(name: str) -> None:
    """Blocks until all processes have called it with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def local_rows(total: int) -> slice:
    """Returns the rows that this process works on; those of all processes are consecutive.

    Args:
      total: the number of rows of all processes.

    Example:
      >>> local_rows(10)
      slice(0, 10, None)
    """
    each = math.ceil(total / jax.process_count())
    start = min(jax.process_index() * each, total)
    return slice(start, min(start + each, total))


def gather(rows: Shaped[np.ndarray, "m ..."], total: int) -> Shaped[np.ndarray, "M ..."]:
    """Gathers the rows of all processes.

    Args:
      rows: the rows of this process, those of ``local_rows(total)``.
      total: the number of rows of all processes.

    Example:
      >>> gather(np.arange(3), 3).tolist()
      [0, 1, 2]
    """
    if jax.process_count() == 1:
        return rows
    each = math.ceil(total / jax.process_count())
    padded = np.zeros((each, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return np.asarray(multihost_utils.process_allgather(padded, tiled=True))[:total]


def sum_over_processes(tree: Any) -> Any:
    """Returns the sum over all processes of each array in a tree."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.sum(axis=0), multihost_utils.process_allgather(tree))


def addressable(tree: Any) -> Any:
    """Converts arrays that are replicated over the devices of all processes to arrays of this process."""
    return jax.tree.map(
        lambda leaf: leaf if getattr(leaf, "is_fully_addressable", True) else leaf.addressable_data(0), tree
    )


def is_peer_failure(error: BaseException) -> bool:
    """Returns whether an error, or one of its causes, is due to another process that has ended."""
    if not is_multi_process():
        return False
    cause: BaseException | None = error
    passed: set[int] = set()  # an error may be among its own causes, as those of gRPC are
    while cause is not None and id(cause) not in passed:
        if _is_network_error(cause):
            return True
        passed.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def _is_network_error(error: BaseException) -> bool:
    """Returns whether an error comes from the network, judging by its type or its text.

    The text is needed because a failure that shows when an array is read is raised as a ValueError, and
    because memory that runs out here is no failure of another process.
    """
    if isinstance(error, jax.errors.JaxRuntimeError) and OUT_OF_MEMORY not in str(error):
        return True
    return any(name in str(error) for name in NETWORK)
