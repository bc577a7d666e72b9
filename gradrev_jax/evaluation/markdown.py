"""Formats names, paths, numbers and tables as Markdown, with all special characters escaped."""

import re
from collections.abc import Mapping, Sequence

from gradrev_jax.evaluation.short_text import shorten, visible

CELL_WIDTH = 60  # the largest width of a name in a table, in columns of text


def escape(text: str, *, width: int | None = CELL_WIDTH) -> str:
    r"""Returns a name as one line of Markdown, shortened in its middle, with special characters escaped.

    Args:
      text: the name, of any characters.
      width: the largest width before escaping, in columns of text; None: it is not shortened.

    Example:
      >>> print(escape("size|EU *new*"), escape("neck_line"), escape("_x_\n<b>"))
      size\|EU \*new\* neck_line \_x\_ \<b>
    """
    line = visible(text) if width is None else shorten(visible(text), width)
    line = re.sub(r"([\\`*\[\]<|~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)
    return re.sub(r"&(?=#?\w+;)", "&amp;", line)


def code(text: str) -> str:
    r"""Returns a path or the like as inline code for a line or a table; it is not shortened.

    Example:
      >>> print(code("runs/a|b"), code("a`b"))
      `runs/a\|b` ``a`b``
    """
    line = visible(text).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def percent(fraction: float) -> str:
    """Returns a fraction in percent, with two decimal places."""
    return f"{100 * fraction:.2f}"


def table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> list[str]:
    """Returns the lines of a table.

    Args:
      rows: the rows, the header first; their cells are Markdown, see ``escape`` and ``code``.
      numbers: whether all columns but the first hold numbers, which are aligned to the right.

    Example:
      >>> table([("attribute", "accuracy"), ("color", "91.00")])
      ['| attribute | accuracy |', '| --- | ---: |', '| color | 91.00 |']
    """
    header, *body = rows
    rule = ["---", *["---:" if numbers else "---"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *body)]


def describe_weights(weights: Mapping[str, float]) -> str:
    """Returns weights as text; only their ratios matter to an order of neighbours.

    Args:
      weights: the weight of each attribute.

    Example:
      >>> describe_weights({"color": 1.4, "size": 0.2})
      'color 1.4, size 0.2'
    """
    return ", ".join(f"{escape(name)} {weight:.3g}" for name, weight in weights.items())
