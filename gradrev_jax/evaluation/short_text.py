"""Shortens texts of any length and content to the width that a picture or a table has."""

import collections
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

ELLIPSIS = "..."
JOINERS = "\u200c\u200d"  # these control how letters of Persian and Hindi, and parts of an emoji, join


def visible(text: str) -> str:
    r"""Returns a text as one line of characters that can be drawn and written to a file.

    White space and control characters become single spaces, surrogates (as in a file name that is not
    UTF-8) become U+FFFD, and characters that only control how others are shown are removed.

    Args:
      text: the text, of any characters.

    Returns:
      The line, or ``'""'`` if it is empty.

    Example:
      >>> visible(" light\n blue "), visible("a\ud800b") == "a\ufffdb", visible("")
      ('light blue', True, '""')
    """
    return " ".join("".join(map(_drawable, text)).split()) or '""'


def text_width(text: str) -> int:
    """Returns the width of a text in columns: two per Chinese character and the like, none per accent.

    Example:
      >>> text_width("red"), text_width("红色"), text_width("e\u0301")
      (3, 4, 1)
    """
    return sum(map(_character_width, text))


def shorten(text: str, width: int) -> str:
    """Returns a text without its middle if it is wider than allowed.

    Args:
      text: the text, one line.
      width: the largest width in columns, see ``text_width``; at least 5.

    Example:
      >>> shorten("sleeve length of the left arm", 15), shorten("color", 15)
      ('sleeve...ft arm', 'color')
    """
    if text_width(text) <= width:
        return text
    kept = width - len(ELLIPSIS)
    start = _head(text, kept - kept // 2)
    return start.rstrip() + ELLIPSIS + _tail(text, kept // 2).lstrip()


def shorten_path(text: str, width: int) -> str:
    """Returns the end of a path, with the file's name, if the whole path is wider than allowed.

    Example:
      >>> shorten_path("catalogue/2024/spring/shirts/0017.jpg", 20)
      '...g/shirts/0017.jpg'
    """
    return text if text_width(text) <= width else ELLIPSIS + _tail(text, width - len(ELLIPSIS))


def shorten_all(texts: Iterable[str], width: int, spell: Callable[[str], str] = visible) -> list[str]:
    """Shortens texts so that different ones stay different: similar ones keep the part that differs.

    Args:
      texts: the texts, of any characters.
      width: the largest width of each, in columns; at least 16.
      spell: a function from a text to the line that is shortened.

    Example:
      >>> shorten_all(["color", "color of the 1st and outer part", "color of the 2nd and outer part"], 16)
      ['color', '...1st and ou...', '...2nd and ou...']
      >>> shorten_all(["light blue", "light  blue"], 16)
      ['light blue', 'light blue (2)']
    """
    texts = list(texts)
    lines = {text: spell(text) for text in texts}
    alike = collections.defaultdict[str, list[str]](list)
    for text, line in lines.items():
        alike[shorten(line, width)].append(text)
    taken = {short for short, texts_alike in alike.items() if len(texts_alike) == 1}
    chosen: dict[str, str] = {}
    for short, texts_alike in alike.items():
        start = _common_start([lines[text] for text in texts_alike])
        for text in texts_alike:
            same = start == len(lines[text])  # the line is a prefix of the others
            chosen[text] = short if len(texts_alike) == 1 or same else _window(lines[text], start, width)
            number = 1
            while len(texts_alike) > 1 and chosen[text] in taken:
                number += 1
                ending = f" ({number})"
                chosen[text] = _cut(short, width - len(ending)) + ending
            taken.add(chosen[text])
    return [chosen[text] for text in texts]


def wrap(text: str, width: int, lines: int) -> str:
    r"""Breaks a text into lines, and cuts off the end if there would be too many.

    Args:
      text: the text, one line; words wider than a line are broken.
      width: the largest width of a line, in columns.
      lines: the largest number of lines.

    Returns:
      The lines, joined by line breaks.

    Example:
      >>> wrap("color: light blue -> dark blue", 14, 3)
      'color: light\nblue -> dark\nblue'
      >>> wrap("color: light blue -> dark blue", 14, 2)
      'color: light\nblue -> dar...'
    """
    broken = [""]
    for word in text.split(" "):
        if text_width(f"{broken[-1]} {word}".lstrip()) <= width:
            broken[-1] = f"{broken[-1]} {word}".lstrip()
            continue
        while text_width(word) > width:
            part = _head(word, width)
            broken.append(part)
            word = word[len(part) :]
        broken.append(word)
    broken = [line for line in broken if line]
    if len(broken) > lines:
        broken[lines - 1 :] = [_cut(" ".join(broken[lines - 1 :]), width)]
    return "\n".join(broken)


def left_to_right(text: str) -> str:
    """Marks lines with Arabic or Hebrew parts, so that the parts are drawn from left to right.

    Without the marks, "color: A -> B" in Arabic letters would be drawn as "color: B <- A". The letters within
    a part keep their direction, and a text without such letters is returned as it is.

    Args:
      text: the lines, whose parts are separated by a comma, a colon or an arrow.

    Example:
      >>> left_to_right("color: red") == "color: red", left_to_right("א: ב").count("\u200e")
      (True, 3)
    """
    if not any(unicodedata.bidirectional(character) in ("R", "AL") for character in text):
        return text
    mark = "\N{LEFT-TO-RIGHT MARK}"
    return re.sub(r"(?m)^", mark, re.sub(r"\s->\s|[:,]\s", rf"{mark}\g<0>{mark}", text))


def _common_start(texts: Sequence[str]) -> int:
    """Returns the length of the longest common prefix of all texts."""
    first, last = min(texts), max(texts)
    return next(
        (i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first)
    )


def _window(text: str, start: int, width: int) -> str:
    """Returns a text from a position on, beginning at the start of a word near to it."""
    start = max(start - 8, text.rfind(" ", 0, start) + 1)
    before = ELLIPSIS if start else ""
    rest = text[start:]
    return before + _cut(rest, width - len(before))


def _cut(text: str, width: int) -> str:
    """Returns a text without its end if it is wider than allowed."""
    return text if text_width(text) <= width else _head(text, width - len(ELLIPSIS)).rstrip() + ELLIPSIS


def _drawable(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    if kind == "Cc":
        return " "
    steers = kind == "Cf" or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return "" if steers and character not in JOINERS else character


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _head(text: str, width: int) -> str:
    """Returns the longest start of a text that fits, at least one character."""
    taken = 0
    for i, character in enumerate(text):
        taken += _character_width(character)
        if taken > width and i:
            return text[:i]
    return text


def _tail(text: str, width: int) -> str:
    """Returns the longest end of a text that fits; it does not begin with an accent."""
    taken, start = 0, len(text)
    for i in range(len(text) - 1, -1, -1):
        taken += _character_width(text[i])
        if taken > width:
            break
        if _character_width(text[i]):
            start = i
    return text[start:]
