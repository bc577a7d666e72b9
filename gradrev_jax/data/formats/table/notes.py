"""Represents remarks on how a table was read, and quotes texts of it for messages."""

from collections.abc import Sequence
from typing import NamedTuple

from gradrev_jax.errors import join_names

SHOWN = 80  # the number of characters of a row or a cell that a message quotes


class Note(NamedTuple):
    """A remark on how a table was read, which a person may want otherwise.

    Attributes:
      text: the remark, in one line.
      arguments: the arguments that change it.
    """

    text: str
    arguments: tuple[str, ...] = ()


def quote_text(text: str, most: int = SHOWN) -> str:
    r"""Quotes a text for a message: unprintable characters are escaped, and the rest behind ``most`` is cut.

    Example:
      >>> print(quote_text("a\tb"), quote_text("abcdefgh", most=6))
      'a\tb' 'abc...'
    """
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")


def list_lines(lines: Sequence[int], most: int = 10) -> str:
    """Lists line numbers for a message: the first ``most``, and how many more there are.

    Example:
      >>> list_lines([3]), list_lines([3, 5, 8], most=2)
      ('line 3', 'lines 3, 5 and 1 more')
    """
    return f"line{'s' if len(lines) > 1 else ''} {join_names([str(line) for line in lines], most=most)}"
