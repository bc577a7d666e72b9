"""Shows how far work is: bars where a line can be drawn again in its place, and lines that stay."""

import sys
from typing import Any

from tqdm import tqdm


class ProgressBar(tqdm):
    """Draws a bar on stderr, unless that is a file or a pipe, which would keep every state of it.

    Args:
      *arguments: those of tqdm: the things to count, then the title.
      progress: whether the bar is wanted.
      **options: those of tqdm.

    Example:
      >>> list(ProgressBar("ab", "letters", progress=False))
      ['a', 'b']
    """

    def __init__(self, *arguments: Any, progress: bool = True, **options: Any) -> None:
        is_hidden = options.pop("disable", None) or not progress or not can_draw()
        super().__init__(*arguments, disable=bool(is_hidden), **options)


def can_draw() -> bool:
    """Returns whether stderr can show a line again in its place, as terminals and notebooks do."""
    stream = sys.stderr
    if stream is None:  # it was closed before the program began
        return False
    return stream.isatty() or type(stream).__module__.startswith("ipykernel.")  # which is no terminal


def tell(line: str) -> None:
    """Prints a line on stderr, above the bars that are drawn there.

    Args:
      line: the line.
    """
    tqdm.write(line, file=sys.stderr)
