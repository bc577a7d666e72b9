"""Reads the resident memory of a process."""

import pathlib
import resource
import sys

KINDS = ("RssAnon", "RssFile", "VmRSS", "VmHWM")


def resident(process: int | str = "self") -> dict[str, int]:
    """Returns the resident memory of a process in bytes: in all, anonymous, of files, and the peak; Linux.

    Args:
      process: the number of the process; ``self``: this one.
    """
    lines = pathlib.Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {kind: int(found[kind].split()[0]) * 1024 for kind in KINDS}


def peak_resident() -> int:
    """Returns the largest resident memory that this process has had, in bytes.

    On Linux it is not ``getrusage``'s, which starts from what the process that started this one had.
    """
    if sys.platform == "linux":
        return resident()["VmHWM"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
