"""What a person can put right: errors whose message is all they need to see, without a traceback."""

import difflib
from collections.abc import Callable, Iterable, Sequence
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


def join_lines(items: Sequence[str], *, most: int | None = 10) -> str:
    r"""Returns one indented line per item: the first few, and how many more there are.

    Args:
      items: what is listed.
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
      names: what is enumerated.
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
