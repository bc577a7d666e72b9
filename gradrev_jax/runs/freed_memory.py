"""Gives freed memory back to the operating system, which the C library would keep for the process."""

import ctypes
from collections.abc import Callable
from typing import Any

# Two settings of glibc by their numbers in malloc.h, and the bytes that they are set to.
M_TRIM_THRESHOLD, TRIM_BYTES = -1, 2**24  # the heap is trimmed once more than this is free at its top
M_MMAP_THRESHOLD, MMAP_BYTES = -3, 2**22  # a block of this size is mapped by itself, and unmapped when freed


def return_large_blocks() -> bool:
    """Makes the C library give large blocks back to the operating system as soon as they are freed.

    By default glibc keeps freed blocks of up to 32 MiB in a heap per thread, where no other thread can use
    them. XLA's matrix products allocate buffers of such sizes for moments, on any of its threads. With this
    setting a step of AlexNet at 96 px and 64 images peaks at 1.39 GiB in place of 1.45, and takes some 2 %
    longer.

    The setting is of the whole process, so only commands make it.

    Returns:
      Whether the setting was made; False where the C library has no ``mallopt``, as on macOS.
    """
    mallopt = _from_c_library("mallopt")
    settings = {M_MMAP_THRESHOLD: MMAP_BYTES, M_TRIM_THRESHOLD: TRIM_BYTES}
    return mallopt is not None and all(mallopt(*setting) for setting in settings.items())


def return_freed_memory() -> bool:
    """Gives freed memory that the C library holds back to the operating system, where it can.

    XLA's compiler allocates hundreds of megabytes in small pieces. glibc holds most of them afterwards, for
    later requests of their size, which never come, and the arrays of a step are allocated in addition.

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
