"""Chooses fonts that have the characters of a picture's texts, and names those that no font has."""

import contextlib
import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set

from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from gradrev_jax.errors import join_names
from gradrev_jax.evaluation.short_text import JOINERS, visible

# Fonts that come with Matplotlib and draw a box, or another character than the one asked for.
NO_LETTERS = ("Last Resort", "cm", "STIXNonUnicode", "STIXSize")
CODE_POINTS = re.compile(r"(?<=[\[ ])U\+([0-9A-F]{4,6})(?=[\] ])")
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC")


@dataclasses.dataclass(frozen=True)
class Lettering:
    """Represents the fonts that draw some texts.

    Attributes:
      families: the value of Matplotlib's ``font.family``; each character is drawn in the first font that
        has it.
      missing: the characters that no font has.
    """

    families: tuple[str, ...]
    missing: frozenset[str]

    def spell(self, text: str) -> str:
        r"""Returns a text as one line that these fonts can draw, with code points for missing characters.

        Example:
          >>> Lettering(("DejaVu Sans",), frozenset("红色")).spell("XL\t红色")
          'XL [U+7EA2 U+8272]'
        """
        line = visible(text)
        if not self.missing:
            return line
        runs = re.compile(f"[{re.escape(''.join(sorted(self.missing)))}]+")
        return runs.sub(lambda run: f"[{' '.join(f'U+{ord(c):04X}' for c in run[0])}]", line)


def choose_fonts(texts: Iterable[str], fonts: Sequence[FontEntry] | None = None) -> Lettering:
    """Chooses fonts for some texts: Matplotlib's own, and as few others as have the characters it lacks.

    Args:
      texts: the texts to draw.
      fonts: the fonts to choose from; None: all installed ones.

    Example:
      >>> choose_fonts(["color", "größe", "цвет"], fonts=()).missing
      frozenset()
    """
    characters = frozenset("".join(map(visible, texts))) - set(JOINERS)
    own = tuple(rcParams["font.family"])
    if fonts is not None:
        return _choose(characters, own, fonts)
    return _choose_installed(characters, own)


@contextlib.contextmanager
def lettered(texts: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Sets fonts that have the characters of some texts, for the figures drawn in a ``with`` block.

    Args:
      texts: the texts to draw.

    Yields:
      A function from a text to the line to draw, see ``Lettering.spell``.
    """
    lettering = choose_fonts(texts)
    # Names come from the user's table: a price in "$" is not a formula.
    with rc_context(
        {"text.parse_math": False, "text.usetex": False, "font.family": list(lettering.families)}
    ):
        yield lettering.spell


def missing_note(figures: Iterable[Figure], *, again: str = "evaluate again") -> str | None:
    """Returns a sentence on the characters that figures show as code points, and what to do about them.

    Args:
      figures: the figures, whose texts were written by ``Lettering.spell``.
      again: the command to repeat once a font is installed, in words.

    Returns:
      The sentence; None if every character is drawn.
    """
    texts = (text for figure in figures for text in figure.findobj(Text) if isinstance(text, Text))
    points = {int(point, 16) for text in texts for point in CODE_POINTS.findall(text.get_text())}
    missing = [chr(point) for point in sorted(points)]
    if not missing:
        return None
    scripts = list(dict.fromkeys(filter(None, map(_script, missing))))
    names = [f"Noto {'' if script == 'Emoji' else 'Sans '}{script}" for script in scripts]
    such_as = f", such as {join_names(names)}," if names else ""
    return (
        f"No installed font has the characters {join_names(missing)}: pictures show their code points, as "
        f"[U+{ord(missing[0]):04X}]; install a font that has them{such_as} and {again}."
    )


def cover(characters: Set[str], coverage: Mapping[str, Set[str]]) -> list[str]:
    """Chooses few fonts that have as many characters as possible, by a greedy search, plain fonts first.

    Args:
      characters: the characters to draw.
      coverage: the characters that each font has, by the font's name.

    Example:
      >>> cover({"红", "色", "ล"}, {"A Serif": {"红", "色"}, "B": {"红", "色"}, "C": {"ล"}, "D": {"红"}})
      ['B', 'C']
    """
    region = _region(characters)

    def rank(name: str) -> tuple[int, bool, bool, bool, int, str]:
        odd = any(style in name for style in ("Serif", "Mono", "Condensed", "Display"))
        foreign = not name.endswith(region)
        return -len(coverage[name] & left), odd, "Sans" not in name, foreign, len(name), name

    left, chosen = set(characters), []
    while left and coverage:
        best = min(coverage, key=rank)
        if not coverage[best] & left:
            break
        chosen.append(best)
        left -= coverage[best]
    return chosen


@functools.cache
def _choose_installed(characters: frozenset[str], own: tuple[str, ...]) -> Lettering:
    lettering = _choose(characters, own, font_manager.fontManager.ttflist)
    if lettering.missing and _notice_new_fonts():
        return _choose(characters, own, font_manager.fontManager.ttflist)
    return lettering


def _choose(characters: frozenset[str], own: tuple[str, ...], fonts: Sequence[FontEntry]) -> Lettering:
    find = font_manager.fontManager.findfont
    # Both the normal and the bold face are used, and the bold one may have fewer characters.
    faces = [find(FontProperties(family=own, weight=weight)) for weight in ("normal", "bold")]
    left = characters - _drawn(characters, [(str(path), getattr(path, "face_index", 0)) for path in faces])
    families: dict[str, list[FontEntry]] = {}
    for font in fonts if left else ():
        if font.style == "normal" and not font.name.startswith(NO_LETTERS):
            families.setdefault(font.name, []).append(font)
    coverage = {name: _drawn(left, _faces(family)) for name, family in families.items()}
    chosen = cover(left, coverage)
    return Lettering((*own, *chosen), left.difference(*(coverage[name] for name in chosen)))


def _faces(family: Sequence[FontEntry]) -> Collection[tuple[str, int]]:
    """Returns the file and the index of the faces of a family that serve as normal and as bold."""

    def distance(font: FontEntry, weight: int) -> tuple[bool, int]:
        own = font.weight if isinstance(font.weight, int) else font_manager.weight_dict.get(font.weight, 400)
        return font.stretch != "normal", abs(own - weight)

    chosen = [min(family, key=lambda font: distance(font, weight)) for weight in (400, 700)]
    return {(font.fname, font.index) for font in chosen}


def _drawn(characters: Set[str], faces: Collection[tuple[str, int]]) -> Set[str]:
    """Returns the characters that all faces of a font have; none if a file is gone or damaged."""
    drawn = set(characters)
    for path, index in faces:
        try:
            font = FT2Font(path, face_index=index)
        except (OSError, RuntimeError):
            return set()
        drawn = {character for character in drawn if font.get_char_index(ord(character))}
        if not drawn:
            break
    return drawn


def _notice_new_fonts() -> bool:
    """Adds fonts to Matplotlib that were installed after it listed them; returns whether there are any."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    found = False
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        with contextlib.suppress(Exception):  # bitmap fonts and damaged files, which Matplotlib cannot draw
            font_manager.fontManager.addfont(path)
            found = True
    return found


def _region(characters: Iterable[str]) -> str:
    """Returns the ending of font names for the region whose forms of Chinese characters are wanted."""
    names = {unicodedata.name(character, "").split(" ")[0] for character in characters}
    return "JP" if names & {"HIRAGANA", "KATAKANA"} else "KR" if "HANGUL" in names else "SC"


def _script(character: str) -> str | None:
    """Returns the name that Noto fonts use for a character's script; None if it has no name."""
    name = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    if name in EAST_ASIAN:
        return "CJK"
    if unicodedata.category(character) in ("So", "Sk"):
        return "Emoji" if character >= "\U0001f000" else "Symbols"
    return name.title() or None
