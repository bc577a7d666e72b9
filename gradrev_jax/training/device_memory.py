"""Measures the free memory of a device."""

import os
import pathlib
import re

import jax

MEMINFO = "/proc/meminfo"


def free_bytes(device: jax.Device) -> int:
    """Returns the number of bytes that can still be allocated on a device.

    On a CPU this counts what the file cache would give back, where the system tells it.

    Args:
      device: the device.
    """
    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"] - statistics["bytes_in_use"])
    try:
        told = pathlib.Path(MEMINFO).read_text()
        (available,) = re.findall(r"^MemAvailable: +(\d+) kB$", told, re.MULTILINE)
        return int(available) * 1024
    except (OSError, ValueError):  # another system
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
