"""Errors that a person can put right: their message is shown alone, without a traceback.

Each class has the status that a command ends with; `docs/reliability.md` has them in a table.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

PLATFORMS = "gradrev_jax trains and evaluates on Linux and macOS; on Windows, run it under WSL"


class UserError(Exception):
    """Something given from outside cannot be used; the message says what, where, and what to do.

    Attributes:
      exit_code: the status that a command ends with, of the class.
      arguments: the names of the function arguments that the user can change to put it right; ``naming``
        adds to the message what they are called outside.

    Example:
      >>> ConfigError("no `steps`", arguments=("steps",)).arguments, ConfigError.exit_code
      (('steps',), 2)
    """

    exit_code: ClassVar[int] = 8

    def __init__(self, message: str, *, arguments: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.arguments = tuple(arguments)


class ConfigError(UserError, ValueError):
    """A flag or a config field, or several, or what they need: each is named with what it may be."""

    exit_code = 2


class DataError(UserError, ValueError):
    """The user's data: a file, a row or a field of it."""

    exit_code = 3


class EngineError(DataError):
    """A vector engine that does not answer, or fails at what it is asked for."""


class WorkdirError(UserError):
    """The folder of a run: started with another config, in use, or not a run at all."""

    exit_code = 4


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read."""

    exit_code = 5


class WeightsError(UserError, ValueError):
    """A file of pretrained weights that cannot be read, or does not fit the model."""

    exit_code = 6


class DivergedError(UserError):
    """A loss or a parameter of a training is no longer a finite number."""

    exit_code = 7


@contextlib.contextmanager
def naming(template: str, names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Adds to the message of a ``UserError`` what a person calls the arguments to be changed.

    Functions below the commands name their arguments alone; their callers, who know the config field or the
    flag behind each argument, say it here.

    Args:
      template: the name of a config field or a flag, with ``{}`` for the argument.
      names: the whole names of those arguments that the template does not fit.

    Raises:
      UserError: the error of the block, with the names at the end of its message.

    Example:
      >>> with naming("data.{}", {"seed": "seed"}):
      ...     raise DataError("no image is left; set `limit` or `seed`", arguments=("limit", "seed"))
      Traceback (most recent call last):
      gradrev_jax.errors.DataError: no image is left; set `limit` or `seed` (config: data.limit, seed)
    """
    try:
        yield
    except UserError as error:
        error.args = (name_arguments(str(error), error.arguments, template, names),)
        error.arguments = ()
        raise


def name_arguments(
    message: str, arguments: Sequence[str], template: str, names: Mapping[str, str] | None = None
) -> str:
    """Returns a message with the names that its arguments have for a person, see ``naming``.

    Args:
      message: one line or several; the names follow on the only line, or on a line of their own.
      arguments: the arguments that the message names.
      template: the name of a config field or a flag, with ``{}`` for the argument.
      names: the whole names of those arguments that the template does not fit.

    Example:
      >>> name_arguments("`root` is no folder", ["root"], "--{}", {"root": "--images"})
      '`root` is no folder (flag: --images)'
    """
    if not arguments:
        return message
    kind = "flag" if template.startswith("--") else "config"
    named = dict.fromkeys((names or {}).get(argument, template.format(argument)) for argument in arguments)
    return f"{message}{chr(10) if chr(10) in message else ' '}({kind}: {', '.join(named)})"


def together(*works: Callable[[], Any]) -> list[Any]:
    """Calls several functions and returns their results; raises the errors of all that fail at once.

    Args:
      *works: the functions, each called once, in order, whether those before it succeeded or not.

    Raises:
      UserError: the error of the one that failed; if several did, a ``DataError`` with all messages.

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
        raise DataError(
            "\n".join(f"{number}. {error}" for number, error in enumerate(failures, 1)),
            arguments=[argument for error in failures for argument in error.arguments],
        )
    if failures:
        raise failures[0]
    return results


def first_line(error: BaseException) -> str:
    r"""Returns the first line of an error's message that is not blank, or its type if there is none.

    Example:
      >>> first_line(OSError("\n disk full \n at 0x1")), first_line(KeyError())
      (' disk full ', 'KeyError')
    """
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def join_lines(items: Sequence[str], *, most: int | None = 10) -> str:
    r"""Returns one indented line per item: the first few, and how many more there are.

    Args:
      items: the items.
      most: the number of items shown; None: all.

    Example:
      >>> join_lines(["a", "b", "c"], most=2)
      '  a\n  b\n  and 1 more'
    """
    shown = items if most is None else items[:most]
    rest = [f"  and {len(items) - len(shown)} more"] if len(items) > len(shown) else []
    return "\n".join([*(f"  {item}" for item in shown), *rest])


def join_names(names: Sequence[str], *, most: int = 10) -> str:
    """Returns an enumeration of names: the first few, and how many more there are.

    Args:
      names: the names.
      most: the number of names shown.

    Example:
      >>> join_names(["a", "b", "c"], most=2), join_names(["a", "b"])
      ('a, b and 1 more', 'a, b')
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def did_you_mean(
    name: str, known: Iterable[str], *, otherwise: str, most: int = 3, cutoff: float = 0.6
) -> str:
    """Returns a hint with the known names nearest to one that is unknown.

    Args:
      name: the unknown name.
      known: names that would be right.
      otherwise: the hint if none of these is near.
      most: the number of names suggested.
      cutoff: the similarity from which a name is near, in [0, 1].

    Example:
      >>> did_you_mean("colour", ["color", "size"], otherwise="see the schema")
      'did you mean color?'
    """
    near = difflib.get_close_matches(name, list(known), n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
