"""Writes names and values of any characters into Markdown, so that they are read as they are."""

import re
from collections.abc import Sequence

from gradrev_jax.evaluation.short_text import shorten, visible

CELL = 60  # columns of a name in a table


def plain(text: str, *, width: int = CELL) -> str:
    r"""Returns a name as Markdown shows it: one line, shortened in its middle, and no character a command.

    Args:
      text: of any characters.
      width: columns that it may take before what this adds.

    Example:
      >>> print(plain("size|EU *new*"), plain("neck_line"), plain("_x_\n<b>"))
      size\|EU \*new\* neck_line \_x\_ \<b>
    """
    line = shorten(visible(text), width)
    line = re.sub(r"([\\`*\[\]<|~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)
    return re.sub(r"&(?=#?\w+;)", "&amp;", line)


def code(text: str) -> str:
    r"""Returns a path or the like as code within a line or a table's cell; it is not shortened.

    Example:
      >>> print(code("runs/a|b"), code("a`b"))
      `runs/a\|b` ``a`b``
    """
    line = visible(text).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> list[str]:
    """Returns a table's lines; its first row is the header.

    Args:
      rows: cells as Markdown, see ``plain`` and ``code``.
      numbers: whether all columns but the first hold numbers, which stand to the right.

    Example:
      >>> table([("attribute", "accuracy"), ("color", "91.00")])
      ['| attribute | accuracy |', '| --- | ---: |', '| color | 91.00 |']
    """
    header, *body = rows
    rule = ["---", *["---:" if numbers else "---"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *body)]
