"""Keeps memory that was freed from staying with the process."""

import ctypes
from collections.abc import Callable
from typing import Any

# The numbers of two settings in glibc's malloc.h, and what they are set to, in bytes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_AT_MOST, LARGE = 2**24, 2**22


def return_large_blocks() -> bool:
    """Makes the C library give large blocks back to the operating system as soon as they are freed.

    By default glibc comes to keep freed blocks of up to 32 MiB, in a heap of each thread, where they serve no
    other thread. XLA's products of matrices take buffers of such sizes for moments, on any of its threads. So
    a step of AlexNet at 96 px and 64 images peaks at 1.39 GiB in place of 1.45, and takes some 2 % longer.

    It is a setting of the whole process, so it is for commands to make.

    Returns:
      Whether the setting was made; False where the C library has no ``mallopt``, as on macOS.
    """
    mallopt = _from_c_library("mallopt")
    settings = {M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: KEPT_AT_MOST}
    return mallopt is not None and all(mallopt(*setting) for setting in settings.items())


def return_freed_memory() -> bool:
    """Gives freed memory that the C library holds back to the operating system, where it can.

    XLA's compiler takes hundreds of megabytes in small pieces. After it, glibc holds most of them for later
    pieces of their size, which never come, while the arrays of a step are allocated beside them.

    Returns:
      Whether anything was given back; False where the C library has no ``malloc_trim``, as on macOS.
    """
    trim = _from_c_library("malloc_trim")
    return trim is not None and bool(trim(0))


def _from_c_library(name: str) -> Callable[..., Any] | None:
    """Returns a function of the C library; None if it has none of that name."""
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found
