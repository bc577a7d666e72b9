"""Measures the free memory of a device."""

import os
import pathlib
import re

import jax

MEMINFO = "/proc/meminfo"


def free_bytes(device: jax.Device) -> int:
    """Returns the number of bytes that can still be allocated on a device.

    On a CPU this counts what the file cache would give back, where the system tells it. Where it tells no
    free memory at all, as macOS, all memory counts.

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
        pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
        return os.sysconf(pages) * os.sysconf("SC_PAGESIZE")
