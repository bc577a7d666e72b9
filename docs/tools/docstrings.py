"""Prepares docstrings for the site: their examples and formulas are shown as code."""

import re
from typing import Any

import griffe

MATH = re.compile(r"^\.\. math::\n((?:[ \t]+.*\n|\n)+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites what the Google parser of griffe does not know."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of an object, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = prepare(obj.docstring.value)


def prepare(text: str) -> str:
    r"""Returns a docstring with its example as a section, and its formulas in fences.

    Args:
      text: the docstring, without indentation.

    Example:
      >>> prepare("Doubles.\n\nExample:\n  >>> double(1)\n  2\n")
      'Doubles.\n\nExamples:\n  >>> double(1)\n  2\n'
    """
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    return MATH.sub(_fence, text)


def _fence(found: re.Match[str]) -> str:
    lines = [line.strip() for line in found[1].strip().splitlines()]
    return "\n".join(["```latex", *lines, "```", "", ""])
