"""A reader with every fault that fuzzing is to find, each where the file's first byte says so."""

import os
import pathlib
import subprocess

from gradrev_jax.errors import DataError
from tests.faults.fuzzing import SECRET, Target

FAULTS = "read refuse nameless raise escape run allocate abort write".split()


def make(folder: pathlib.Path) -> None:
    """Writes a file that is read."""
    (folder / "file").write_bytes(bytes(64))


def read(folder: pathlib.Path) -> None:
    """Does what the sum of the file's bytes says."""
    content = (folder / "file").read_bytes()
    fault = FAULTS[sum(content) % len(FAULTS)]
    if fault == "refuse":
        raise DataError(f"{folder / 'file'} is refused")
    if fault == "nameless":
        raise DataError("something is refused")
    if fault == "raise":
        raise KeyError("a bug")
    if fault == "escape":
        (folder.parent / SECRET).read_bytes()
    if fault == "run":
        subprocess.run(["true"], check=True)
    if fault == "allocate":
        bytearray(3 * 2**30)
    if fault == "abort":
        os.abort()
    if fault == "write":
        (folder.parent / "written").write_bytes(b"")


TARGETS = {"planted": Target("planted", make, read)}
