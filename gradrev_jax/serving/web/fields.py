"""Reads what clients send, as JSON or in a query string, field by field, and says what is wrong with it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradrev_jax.errors import did_you_mean, join_names
from gradrev_jax.serving.web.refusals import Refused, quote

MOST_DIGITS = 18  # of a whole number: more fit no field, and take time to read
REQUIRED = object()


def parse_json(body: bytes) -> Any:
    """Returns the value of a JSON text, without what Python reads beyond JSON.

    Args:
      body: the text in UTF-8.

    Raises:
      Refused: no UTF-8, no JSON, NaN or Infinity, a whole number of many digits, a field that is given twice,
        or too many levels.

    Example:
      >>> parse_json(b'{"k": 20, "look": 0.5}')
      {'k': 20, 'look': 0.5}
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_short_integer,
        )
    except UnicodeDecodeError as error:
        raise Refused(f"the body is not UTF-8: byte {error.start} cannot be read") from None
    except json.JSONDecodeError as error:
        raise Refused(
            f"the body is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise Refused("the body has too many levels of lists and objects") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen = set[str]()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Refused(f"the field {quote(repeated)} is given twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise Refused(f"{name} is no number of JSON; give a finite one")


def _short_integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise Refused(f"the number {quote(digits)} has {len(digits)} digits, more than any field takes")
    return int(digits)


class Fields:
    """Reads the fields of a JSON object; each method takes a field's name and returns its checked value.

    A field without a default must be given. ``check_all_read`` refuses those that nothing has read.

    Args:
      value: the value that should be an object.
      place: the name of the object in messages, as in ``changes[2]``; empty: the body itself.

    Raises:
      Refused: by every method, if the field is missing, of another type or out of range.

    Example:
      >>> fields = Fields({"k": 0, "kk": 1})
      >>> fields.whole("k", 1, 200, default=20)
      Traceback (most recent call last):
      gradrev_jax.serving.web.refusals.Refused: `k` is 0; give a whole number from 1 to 200
      >>> fields.check_all_read()
      Traceback (most recent call last):
      gradrev_jax.serving.web.refusals.Refused: `kk` is no field here; did you mean k?
    """

    def __init__(self, value: Any, place: str = "") -> None:
        if not isinstance(value, dict):
            raise Refused(f"{f'`{place}`' if place else 'the body'} is {quote(value)}; give a JSON object")
        self._values: dict[str, Any] = value
        self._place = place
        self._read = list[str]()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def path(self, name: str) -> str:
        """Returns the name of a field as messages give it, from the body on."""
        return f"{self._place}.{name}" if self._place else name

    def value(self, name: str, default: Any = REQUIRED) -> Any:
        """Returns the value of a field, of any type."""
        self._read.append(name)
        if name not in self._values and default is REQUIRED:
            raise Refused(f"`{self.path(name)}` is missing")
        return self._values.get(name, default)

    def whole(self, name: str, low: int, high: int, default: Any = REQUIRED) -> Any:
        """Returns a whole number between two bounds, inclusive."""
        value = self.value(name, default)
        if name not in self:
            return value
        return check_whole(value, low, high, self.path(name))

    def number(self, name: str, low: float, high: float, default: Any = REQUIRED) -> Any:
        """Returns a finite number between two bounds, inclusive."""
        value = self.value(name, default)
        if name not in self:
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:  # infinity is out of range, too
            raise Refused(f"`{self.path(name)}` is {quote(value)}; give a number from {low:g} to {high:g}")
        return float(value)

    def text(self, name: str, longest: int, default: Any = REQUIRED) -> Any:
        """Returns a text of at most some characters."""
        value = self.value(name, default)
        if name not in self:
            return value
        return check_text(value, longest, self.path(name))

    def flag(self, name: str, default: bool = False) -> bool:
        """Returns true or false."""
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise Refused(f"`{self.path(name)}` is {quote(value)}; give true or false")
        return value

    def items(self, name: str, most: int) -> list[Any]:
        """Returns a list of at most some entries; an empty one if the field is not given."""
        value = self.value(name, [])
        if not isinstance(value, list):
            raise Refused(f"`{self.path(name)}` is {quote(value)}; give a list")
        if len(value) > most:
            raise Refused(f"`{self.path(name)}` has {len(value):,} entries; give at most {most:,}")
        return value

    def check_all_read(self) -> None:
        """Refuses an object with fields that no method has read."""
        for name in self._values:
            if name not in self._read:
                known = f"there are {join_names(self._read)}" if self._read else "there is none"
                hint = did_you_mean(name[:100], self._read, otherwise=known)
                raise Refused(f"`{self.path(quote(name)[1:-1])}` is no field here; {hint}")


def check_whole(value: Any, low: int, high: int, name: str) -> int:
    """Returns a whole number if it is one within bounds.

    Raises:
      Refused: it is of another type, or out of range.

    Example:
      >>> check_whole(3, 0, 9, "item")
      3
    """
    if not is_whole(value) or not low <= value <= high:
        raise Refused(f"`{name}` is {quote(value)}; give a whole number from {low:,} to {high:,}")
    return int(value)


def is_whole(value: Any) -> bool:
    """Returns whether a value of JSON is a whole number, however it is written.

    Example:
      >>> [is_whole(value) for value in (3, 3.0, 3.5, True, "3", float("inf"))]
      [True, True, False, False, False, False]
    """
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def check_text(value: Any, longest: int, name: str) -> str:
    """Returns a text if it is one of at most some characters.

    Raises:
      Refused: it is of another type, or too long.

    Example:
      >>> check_text("red", 10, "to")
      'red'
    """
    if not isinstance(value, str):
        raise Refused(f"`{name}` is {quote(value)}; give a text")
    if len(value) > longest:
        raise Refused(f"`{name}` has {len(value):,} characters; give at most {longest:,}")
    return value


def known_name(name: str, known: Sequence[str], what: str, place: str) -> str:
    """Returns a name if it is one of those that are known.

    Args:
      name: the name.
      known: the names that are known.
      what: what they name, for the message: ``attribute``.
      place: the field.

    Raises:
      Refused: it is none of them; the message has the near ones.

    Example:
      >>> known_name("colour", ["color", "sleeve"], "attribute", "where")
      Traceback (most recent call last):
      gradrev_jax.serving.web.refusals.Refused: `where`: no attribute 'colour'; did you mean color?
    """
    if name not in known:
        hint = did_you_mean(name[:100], known, otherwise=f"there are {join_names(known)}")
        raise Refused(f"`{place}`: no {what} {quote(name)}; {hint}")
    return name


class Query(Fields):
    """Reads the parameters of a query string, with the checks and messages of ``Fields``.

    Args:
      pairs: the names and values, decoded, in their order.
      whole_numbers: the names of the parameters that are whole numbers.

    Raises:
      Refused: a parameter is given twice.

    Example:
      >>> Query([("size", "64")], ("size",)).whole("size", 16, 1024, default=256)
      64
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], whole_numbers: Sequence[str] = ()) -> None:
        values: Mapping[str, str] = _unique(pairs)
        super().__init__(
            {name: _as_integer(value) if name in whole_numbers else value for name, value in values.items()}
        )


def _as_integer(text: str) -> int | str:
    """Returns the whole number of a text; the text itself if it is none, for the message."""
    return int(text) if re.fullmatch(rf"[0-9]{{1,{MOST_DIGITS}}}", text) else text
