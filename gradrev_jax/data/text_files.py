"""Reads text files whose lines may have any content, but not any length."""

import pathlib
import re

from gradrev_jax.errors import DataError

# In bytes: longer lines are of a file that is no table, or damaged, or made to fill memory.
LONGEST_LINE = 2**24
_LINE_END = re.compile(r"\r\n|\n|\r")


def read_bytes(path: pathlib.Path) -> bytes:
    r"""Reads a text file; ends at a line that is too long, without having read the file.

    Args:
      path: the file, in UTF-8, UTF-16 or UTF-32; lines end at \n, \r or \r\n.

    Raises:
      DataError: a line has more than ``LONGEST_LINE`` bytes, give or take those that were read at once.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "table.csv")
      ...     _ = path.write_bytes(b"image,split\n")
      ...     read_bytes(path)
      b'image,split\n'
    """
    chunks, length = [], 0
    with path.open("rb") as file:
        while chunk := file.read(LONGEST_LINE):
            chunks.append(chunk)
            first = min((end for mark in b"\n\r" if (end := chunk.find(mark)) >= 0), default=len(chunk))
            if (length := length + first) > LONGEST_LINE:
                line = count_line_ends(b"".join(chunks[:-1]).decode("latin-1")) + 1
                raise DataError(
                    f"{path}, line {line}: the line has more than {LONGEST_LINE:,} bytes; no file with a row "
                    "per line has one that long"
                )
            if first < len(chunk):
                length = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
    return b"".join(chunks)


def count_line_ends(text: str) -> int:
    r"""Returns the number of lines that end in a text, at \n, \r or \r\n.

    Example:
      >>> count_line_ends("a\r\nb\nc")
      2
    """
    return len(_LINE_END.findall(text))


def split_lines(text: str) -> list[str]:
    r"""Returns the lines of a text, which end at \n, \r or \r\n alone.

    ``str.splitlines`` would also end them at U+2028, U+0085, vertical tabs and form feeds, which are
    characters of a name.

    Example:
      >>> split_lines("a\r\nb\u2028c\n")
      ['a', 'b\u2028c', '']
    """
    return _LINE_END.split(text)
