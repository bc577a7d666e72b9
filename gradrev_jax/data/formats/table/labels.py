"""Turns cells into labels: recognises words for "missing", spellings, and several values in a cell."""

import dataclasses
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.data.formats.table.notes import Note, quote_text

# In any case. Without "unknown" and "other", which are values in many tables.
_MISSING = ("na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "nat", "null", "nil", "none")
MISSING_WORDS = (*_MISSING, "-", "--", "–", "?", ".")
SEPARATORS = "|;,/+&"  # recognised between several values in one cell
QUOTED = 5  # the number of cells that a note quotes
FEWEST_ROWS = 20  # the number of labelled rows from which a column may be taken for an identifier

# Zero-width spaces, byte order marks, soft hyphens and marks of direction, which cannot be seen.
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad\u200e\u200f"))


@dataclasses.dataclass(frozen=True)
class CellRules:
    """Represents how cells are read as values.

    Attributes:
      missing_words: the cells that mean "not labelled", besides empty ones, in any case.
      merge_spellings: whether spellings that differ in case, white space or Unicode form, or as 7 and 7.0 do,
        are one value, which is spelled as in most rows.
      value_separator: the text between several values in a cell, whose order then does not matter; empty:
        every cell is one value.
    """

    missing_words: tuple[str, ...] = MISSING_WORDS
    merge_spellings: bool = True
    value_separator: str = ""


VERBATIM = CellRules((), merge_spellings=False)


class Column(NamedTuple):
    """A column as read.

    Attributes:
      values: the value of each row; empty: not labelled.
      missing: the number of cells of each word that was read as "not labelled".
    """

    values: list[str]
    missing: Counter[str]


def read_column(
    cells: Sequence[str], rules: CellRules, known: Collection[str] = ()
) -> tuple[Column, list[Note]]:
    """Reads the cells of a column as values.

    Args:
      cells: the cells, without white space around them.
      rules: the rules by which cells become values; by ``VERBATIM`` every cell is its own value, and nothing
        is noted.
      known: the values that the column had before, which are spelled as they were.

    Returns:
      The column, and notes on what was recognised, with counts.

    Example:
      >>> column, notes = read_column(["Red", "red", "red", "N/A", "blue", ""], CellRules())
      >>> column.values
      ['red', 'red', 'red', '', 'blue', '']
      >>> notes[0].text
      "1 cell is not labelled: 'N/A' (1); `missing_words` has such words"
    """
    counts = Counter(cell for cell in cells if cell)
    words = {"", *map(spelling_key, rules.missing_words)}  # a cell of invisible characters is empty
    parts = {cell: _split(cell, rules.value_separator) for cell in counts}
    missing, kept = Counter[str](), Counter[str]()
    for cell, count in counts.items():
        for part in parts[cell]:
            (missing if spelling_key(part) in words else kept)[part] += count
    before = {part for value in known for part in _split(value, rules.value_separator)}
    usual = usual_spellings(kept, before) if rules.merge_spellings else {part: part for part in kept}
    value_of = {
        cell: rules.value_separator.join(sorted({usual[part] for part in parts[cell] if part in usual}))
        for cell in counts
    }
    column = Column([value_of.get(cell, "") for cell in cells], missing)
    if rules == VERBATIM:
        return column, []
    notes = []
    if missing:
        text = f"{_cells_are(missing)} not labelled: {_quote_cells(missing)}; `missing_words` has such words"
        notes.append(Note(text, ("missing_words",)))
    if respelled := Counter({part: count for part, count in kept.items() if usual[part] != part}):
        text = f"{_cells_are(respelled, 'has', 'have')} another spelling: {_quote_cells(respelled, usual)}; "
        notes.append(Note(f"{text}`merge_spellings=False` keeps spellings apart", ("merge_spellings",)))
    if rules.value_separator:
        as_written = {
            cell: rules.value_separator.join(usual[part] for part in parts[cell] if part in usual)
            for cell in counts
        }
        reordered = {cell: count for cell, count in counts.items() if as_written[cell] != value_of[cell]}
        return column, notes + _note_order(Counter(reordered), value_of)
    return column, notes + _note_several(Counter(value for value in column.values if value))


def _note_order(reordered: Counter[str], value_of: Mapping[str, str]) -> list[Note]:
    """Notes cells whose values were put in order."""
    if not reordered:
        return []
    cells = _quote_cells(reordered, value_of)
    return [Note(f"{_cells_are(reordered)} read with their values in order: {cells}")]


def _note_several(counts: Counter[str]) -> list[Note]:
    """Notes values that seem to hold several others."""
    separator, several = find_several_values(counts)
    if not several:
        return []
    text = (
        f"{_cells_are(several, 'seems', 'seem')} to hold several values: {_quote_cells(several)}; each "
        f"combination and order is its own value; `value_separator={separator!r}` makes all orders one value"
    )
    return [Note(text, ("value_separator",))]


def spelling_key(text: str) -> str:
    r"""Returns a key that all spellings of a word have in common.

    Example:
      >>> spelling_key("Light  Blue") == spelling_key("light\u00a0blue"), spelling_key("7.0")
      (True, '7')
    """
    words = unicodedata.normalize("NFKC", text).casefold().translate(_INVISIBLE).split()
    key = unicodedata.normalize("NFKC", " ".join(words))
    return re.sub(r"^([+-]?[0-9]+)\.0+$", r"\1", key)


def usual_spellings(counts: Mapping[str, int], known: Collection[str] = ()) -> dict[str, str]:
    """Returns the most frequent spelling of each word; of equally frequent ones the shortest.

    Args:
      counts: the number of cells of each spelling.
      known: spellings that are the usual ones, however frequent they are.

    Example:
      >>> usual_spellings({"Red": 1, "red": 2, "Blue": 1}, known=["blue"])
      {'Red': 'red', 'red': 'red', 'Blue': 'blue'}
    """
    spellings = defaultdict(list)
    for word in counts:
        spellings[spelling_key(word)].append(word)
    usual = {
        key: min(same, key=lambda word: (-counts[word], len(word), word)) for key, same in spellings.items()
    }
    usual |= {spelling_key(word): word for word in known}
    return {word: usual[spelling_key(word)] for word in counts}


def find_several_values(counts: Mapping[str, int]) -> tuple[str, Counter[str]]:
    """Finds values that hold several others: a part of one is a value, or the same parts come in two orders.

    Args:
      counts: the number of rows of each value.

    Returns:
      The separator that is found in most rows, and the number of rows of each such value.

    Example:
      >>> find_several_values({"red|blue": 2, "blue|red": 1, "green": 5})
      ('|', Counter({'red|blue': 2, 'blue|red': 1}))
    """
    keys = set(map(spelling_key, counts))
    found = {}
    for separator in SEPARATORS:
        orders = defaultdict(list)
        for value in counts:
            parts = _split(value, separator)
            decimal = separator == "," and all(map(str.isdecimal, parts))  # 1,5 is one number
            if len(parts) > 1 and not decimal:
                orders[tuple(sorted(map(spelling_key, parts)))].append(value)
        several = [
            value for parts, same in orders.items() if len(same) > 1 or keys & set(parts) for value in same
        ]
        found[separator] = Counter({value: counts[value] for value in several})
    separator = max(found, key=lambda candidate: found[candidate].total())
    return separator, found[separator]


def label_values(values: Sequence[str], min_count: int) -> tuple[tuple[str, ...], Int[np.ndarray, " M"]]:
    """Returns the values that enough rows have, in alphabetical order, and the label of each row.

    Args:
      values: the values of M rows; empty: not labelled.
      min_count: the least number of rows of a value; rows of rarer ones become "not labelled".

    Example:
      >>> kept, labels = label_values(["s", "", "m", "s"], min_count=2)
      >>> kept, labels.tolist()
      (('s',), [0, -1, -1, 0])
    """
    counts = Counter(value for value in values if value)
    kept = tuple(sorted(value for value, count in counts.items() if count >= min_count))
    index = {value: position for position, value in enumerate(kept)}
    return kept, np.array([index.get(value, NOT_LABELLED) for value in values], np.int32)


def is_identifier(labels: Int[np.ndarray, " M"]) -> bool:
    """Returns whether a column looks like an identifier: most of its labelled rows have a value of their own.

    Args:
      labels: the labels of M rows; fewer than 20 labelled ones are never taken for an identifier.

    Example:
      >>> is_identifier(np.arange(20)), is_identifier(np.arange(20) % 10), is_identifier(np.arange(19))
      (True, False, False)
    """
    rows = np.bincount(labels[labels >= 0])
    return bool(rows.sum() >= FEWEST_ROWS and 2 * (rows == 1).sum() > rows.sum())


def _split(cell: str, separator: str) -> list[str]:
    """Splits a cell into its parts, without blank ones."""
    parts = cell.split(separator) if separator else [cell]
    return [part.strip() for part in parts if part.strip()]


def _cells_are(counts: Counter[str], one: str = "is", many: str = "are") -> str:
    return f"{counts.total():,} cell {one}" if counts.total() == 1 else f"{counts.total():,} cells {many}"


def _quote_cells(counts: Counter[str], read_as: Mapping[str, str] | None = None) -> str:
    """Lists cells with their counts, the most frequent first, and the values they are read as."""
    listed = [
        f"{quote_text(cell, 40)} ({count:,})" + (f" as {quote_text(read_as[cell], 40)}" if read_as else "")
        for cell, count in counts.most_common(QUOTED)
    ]
    more = f" and {len(counts) - QUOTED:,} others" if len(counts) > QUOTED else ""
    return ", ".join(listed) + more
