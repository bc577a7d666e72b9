"""Ends a command that fails with one paragraph on stderr in place of a traceback, and with a status."""

import contextlib
import errno
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import jax
from absl import flags

from gradrev_jax import distributed
from gradrev_jax.errors import ConfigError, UserError, first_line

DEBUG = "debug"  # the name of the flag
UNEXPECTED, INTERRUPTED = 1, 130  # statuses; those of UserErrors are their exit codes
GOES_ON = "interrupted; give the same command again to go on"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NOT_PRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Ending(NamedTuple):
    """The end of a command: its status, and what it says."""

    status: int
    message: str


@contextlib.contextmanager
def ends_in_words() -> Iterator[None]:
    """Ends the command with a message and a status if the block raises; one of several processes at once.

    With --debug the traceback stands above the message.

    Example:
      >>> with contextlib.redirect_stderr(sys.stdout), ends_in_words():
      ...     raise ConfigError("seed = -1: at least 0")
      Traceback (most recent call last):
      SystemExit: 2
    """
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _tell_of_thread
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:  # a panic of an extension in Rust is no Exception
        ending = ending_of(error)
        _tell(ending.message, error)
        if distributed.is_multi_process():
            os._exit(ending.status)  # without waiting for the others
        sys.exit(ending.status)


def ending_of(error: BaseException) -> Ending:
    """Returns the exit status and the message of a command after an error.

    Args:
      error: the error.

    Example:
      >>> ending_of(ConfigError("seed = -1: at least 0"))
      Ending(status=2, message='error: seed = -1: at least 0')
      >>> ending_of(PermissionError(13, "Permission denied", "/run/config.json")).message.splitlines()[0]
      'error: /run/config.json: Permission denied'
    """
    if isinstance(error, KeyboardInterrupt):
        return Ending(INTERRUPTED, GOES_ON)
    if distributed.is_peer_failure(error):
        return Ending(
            UserError.exit_code,
            f"error: another process of this run has ended: {first_line(error)}\nIts output says why. "
            "Start all processes again with the same --workdir to go on from the latest checkpoint.",
        )
    if isinstance(error, UserError):
        return Ending(error.exit_code, f"error: {error}")
    if isinstance(error, AssertionError | RuntimeError) and (problem := distributed.missing_device()):
        return Ending(ConfigError.exit_code, f"error: {problem}")
    return Ending(UNEXPECTED, f"error: {_unexpected(error)}")


def _unexpected(error: BaseException) -> str:
    """Describes an error that nothing has foreseen: the machine's, or a bug."""
    hint = f"--{DEBUG} shows where"
    if isinstance(error, MemoryError):
        reason = f": {first_line(error)}" if str(error).strip() else ""
        return f"the memory is used up{reason}\nAsk for less at a time, as by a smaller batch_size; {hint}."
    if isinstance(error, jax.errors.JaxRuntimeError) and distributed.OUT_OF_MEMORY in str(error):
        return (
            f"the memory of the device is used up: {first_line(error)}\n"
            f"Ask for less at a time, as by a smaller train.batch_size or protocol.batch_size; {hint}."
        )
    if isinstance(error, OSError):
        named = isinstance(error.filename, str | bytes)
        file = f"{os.fsdecode(error.filename)}: " if named else ""
        full = "Make room and give the same command again; " if error.errno in FULL_DISK else ""
        return f"{file}{error.strerror or first_line(error)}\n{full}{hint}."
    reason = f": {first_line(error)}" if str(error).strip() else ""
    return (
        f"{type(error).__name__}{reason}\nThis is a bug of gradrev_jax: no message was foreseen for it. "
        f"{hint}; please report what it prints."
    )


def shows_traceback() -> bool:
    """Returns whether --debug was given, also on a command line that could not be parsed."""
    parsed = DEBUG in flags.FLAGS and flags.FLAGS[DEBUG].value
    return bool(parsed) or any(re.fullmatch(rf"--?{DEBUG}(=(true|1))?", each) for each in sys.argv[1:])


def printable(text: str) -> str:
    r"""Returns a text without what could steer a terminal, as the names of a stranger's files may.

    Args:
      text: the text; its line breaks and tabs remain.

    Example:
      >>> printable("no such file: \x1b[2J.jpg")
      'no such file: \\x1b[2J.jpg'
    """
    return NOT_PRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _tell(message: str, error: BaseException) -> None:
    """Prints a message on stderr, below the traceback if that is asked for."""
    if shows_traceback():
        message = f"{''.join(traceback.format_exception(error))}\n{message}"
    print(printable(message), file=sys.stderr, flush=True)


def _tell_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Prints what a thread has failed at, in place of Python's traceback."""
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        _tell(f"error: a thread has ended: {_unexpected(failed.exc_value)}", failed.exc_value)
