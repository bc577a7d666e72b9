import subprocess
import sys

import pytest

from benchmarks.resident_memory import peak_resident

LARGE = 300 * 2**20


def test_peak_counts_memory_that_was_freed():
    before = peak_resident()
    b"1" * LARGE
    assert peak_resident() >= min(before + LARGE // 2, LARGE)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS tells no other peak than getrusage's")
def test_peak_leaves_out_what_the_parent_had():
    parent = f"""
import subprocess, sys
held = b"1" * {LARGE}
child = "from benchmarks.resident_memory import peak_resident; print(peak_resident())"
subprocess.run([sys.executable, "-c", child], check=True)
"""
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < LARGE // 2
