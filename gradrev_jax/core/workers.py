"""The cores that this process may use, and so the number of threads that divide work on the host."""

import os


def usable_cores() -> int:
    """Returns the number of cores that this process may run on: those of its affinity, where that is known.

    Example:
      >>> 1 <= usable_cores() <= os.cpu_count()
      True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


NUM_WORKERS = usable_cores()  # each has a core
