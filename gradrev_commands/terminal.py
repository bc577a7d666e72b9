"""Makes printing safe: for terminals without Unicode, and for readers that stop reading."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    r"""Runs a command whose work must not be lost because a line of its output cannot be printed.

    A character that the terminal lacks is printed as an escape, as ``\xfc``. Where the reader of a pipe has
    gone, as in ``python evaluate.py ... | head -1``, the command ends without a traceback, with status 1.
    """
    for stream in _streams():
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
        for stream in _streams():
            stream.flush()
    except BrokenPipeError:
        if not [stream for stream in _streams() if _disconnect_if_broken(stream)]:
            raise  # another pipe than those two
        sys.exit(1)


def _streams() -> list[io.TextIOWrapper]:
    """Standard output and error, unless they are closed (None) or replaced by something else."""
    return [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]


def _disconnect_if_broken(stream: io.TextIOWrapper) -> bool:
    """Sends a stream to nowhere if its reader has gone, because Python flushes it once more at its end."""
    try:
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return True
    return False
