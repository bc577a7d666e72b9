import ctypes
import pathlib

import pytest

from gradrev_jax.runs.freed_memory import return_freed_memory

PIECES, SIZE = 100_000, 2_000  # small enough for the heap, too large for Python's own pools
HAS_TRIM = hasattr(ctypes.CDLL(None), "malloc_trim")


def resident():
    """Returns the resident memory of this process in bytes."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not HAS_TRIM, reason="glibc's malloc_trim")
def test_memory_that_was_freed_is_given_back():
    pieces = [bytes(SIZE) for _ in range(PIECES)]
    kept = pieces[-1]  # at the end of the heap, so that the C library cannot shrink it
    pieces.clear()
    before = resident()
    assert return_freed_memory()
    assert resident() < before - PIECES * SIZE * 0.8
    assert not any(kept)


def test_another_c_library_gives_nothing_back(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not return_freed_memory()
