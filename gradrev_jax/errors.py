"""What a person can put right: errors whose message is all they need to see, without a traceback."""

from collections.abc import Callable
from typing import Any

PLATFORMS = "gradrev_jax trains and evaluates on Linux and macOS; on Windows, run it under WSL"


class UserError(Exception):
    """Something given from outside cannot be used; the message says what, where, and what to do."""


class DataError(UserError, ValueError):
    """The user's data: a file, a row or a field of it."""


class ConfigError(UserError, ValueError):
    """A config field, or several: each is named with what it may be."""


class WorkdirError(UserError):
    """The folder of a run: started with another config, or not a run at all."""


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read."""


class WeightsError(UserError, ValueError):
    """A file of pretrained weights that cannot be read, or does not fit the model."""


def together(*works: Callable[[], Any]) -> list[Any]:
    """Does several things and returns their results; what a person can put right is raised for all at once.

    Args:
      *works: each called once, in order, whether those before it succeeded or not.

    Raises:
      UserError: of the first that failed, or, where several did, with the messages of all.

    Example:
      >>> together(lambda: 1, lambda: 2)
      [1, 2]
    """
    results, failures = [], list[UserError]()
    for work in works:
        try:
            results.append(work())
        except UserError as error:
            failures.append(error)
    if len(failures) > 1:
        raise DataError("\n".join(f"{number}. {error}" for number, error in enumerate(failures, 1)))
    if failures:
        raise failures[0]
    return results


def first_line(error: BaseException) -> str:
    r"""What a library's error says first, or its kind where it says nothing.

    Example:
      >>> first_line(OSError("\n disk full \n at 0x1")), first_line(KeyError())
      (' disk full ', 'KeyError')
    """
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
