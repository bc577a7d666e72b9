"""Makes printing safe on terminals without Unicode, and if the reader of a pipe stops early."""

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    r"""Keeps a command from failing because a line of its output cannot be printed.

    A character that the terminal cannot show is printed as an escape, for example ``\xfc``. If the reader of
    a pipe ends first, as in ``python evaluate.py ... | head -1``, the command ends with status 1 and without
    a traceback.
    """
    for stream in _streams():
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
        for stream in _streams():
            stream.flush()
    except BrokenPipeError:
        if not [stream for stream in _streams() if _disconnect_if_broken(stream)]:
            raise  # the broken pipe is neither output nor error
        sys.exit(1)


def _streams() -> list[io.TextIOWrapper]:
    """Returns standard output and error, without those that are closed (None) or replaced."""
    return [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]


def _disconnect_if_broken(stream: io.TextIOWrapper) -> bool:
    """Redirects a stream to the null device if its reader has ended; Python flushes it once more at exit."""
    try:
        stream.flush()
        broken = _has_no_reader(stream)  # a write that was too large for the buffer has lost its text
    except BrokenPipeError:
        broken = True
    if broken:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return broken


def _has_no_reader(stream: io.TextIOWrapper) -> bool:
    """Returns whether a stream is a pipe whose reading end is closed."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # errors are reported in any case
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
