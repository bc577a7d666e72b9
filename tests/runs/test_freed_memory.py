import ctypes
import pathlib
import subprocess
import sys

import pytest

from gradrev_jax.runs.freed_memory import return_freed_memory, return_large_blocks

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


# Blocks of 8 MiB below one that is kept: after a larger one was freed, glibc takes them from its heap, which
# it can shrink at the end alone.
LARGE_BLOCKS = """
import ctypes, pathlib
from gradrev_jax.runs.freed_memory import return_large_blocks

library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def filled(mib):
    block = library.malloc(ctypes.c_size_t(mib << 20))
    ctypes.memset(block, 1, mib << 20)
    return block

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

if {called}:
    assert return_large_blocks()
library.free(filled(30))
*blocks, kept = [filled(8) for _ in range(10)]
before = resident()
for block in blocks:
    library.free(block)
print(before - resident())
"""


@pytest.mark.skipif(not HAS_TRIM, reason="glibc's mallopt")
@pytest.mark.parametrize(("called", "least", "most"), [(True, 71, 73), (False, 0, 1)])
def test_large_blocks_are_given_back_as_soon_as_they_are_freed(called, least, most):
    script = LARGE_BLOCKS.replace("{called}", str(called))
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100
    )
    assert least <= int(ended.stdout) <= most


def test_another_c_library_has_no_such_setting(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not return_large_blocks()
