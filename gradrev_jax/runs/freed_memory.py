"""Gives memory that was freed back to the operating system."""

import ctypes


def return_freed_memory() -> bool:
    """Gives freed memory that the C library holds back to the operating system, where it can.

    XLA's compiler takes hundreds of megabytes in small pieces. After it, glibc holds most of them for later
    pieces of their size, which never come, while the arrays of a step are allocated beside them.

    Returns:
      Whether anything was given back; False where the C library has no ``malloc_trim``, as on macOS.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return bool(trim(0))
