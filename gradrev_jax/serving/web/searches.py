"""Reads the request of a search, and answers it."""

from typing import Any, NamedTuple

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.serving.changes import Change
from gradrev_jax.serving.space import LARGEST_LOOK
from gradrev_jax.serving.web.answers import Answers
from gradrev_jax.serving.web.fields import Fields, check_text, check_whole, is_whole, known_name
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.photos import Photos
from gradrev_jax.serving.web.refusals import Refused, quote
from gradrev_jax.serving.web.shop import Shop

STRONGEST = 10.0  # of a change, in either direction
LONGEST_NAME = 1000  # characters of a value or of a photograph's id
LONGEST_PATH = 4096  # characters of an item's name


class Search(NamedTuple):
    """A checked request: what is searched with, an item of the gallery unless it is a photograph, and how.

    The name is what the client takes the item for; None: whatever it is.
    """

    row: int
    name: str | None
    photo: str | None
    changes: tuple[Change, ...]
    where: dict[str, list[str]]
    exclude: tuple[int, ...]
    look: float | None
    k: int
    counts: bool


def read_search(value: Any, schema: AttributeSchema, num_items: int, limits: Limits) -> Search:
    """Returns the search that a JSON body asks for.

    Args:
      value: the body.
      schema: the attributes.
      num_items: the number of gallery images.
      limits: the limits of one search.

    Raises:
      Refused: a field is missing, unknown, of another type or out of range.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> body = {"item": 3, "changes": [{"attribute": "color", "to": "red"}]}
      >>> search = read_search(body, schema, 10, Limits())
      >>> search.changes, search.k
      ((Change(attribute='color', to='red', strength=1.0, unwanted=()),), 20)
      >>> read_search({"item": 10}, schema, 10, Limits())
      Traceback (most recent call last):
      gradrev_jax.serving.web.refusals.Refused: there is no item 10; the gallery has items 0 to 9
    """
    fields = Fields(value)
    if ("item" in fields) == ("photo" in fields):
        raise Refused("give either `item`, a row of the gallery, or `photo`, the id of a photograph")
    search = Search(
        row=check_row(fields.value("item", 0), num_items),
        name=fields.text("name", LONGEST_PATH, default=None),
        photo=fields.text("photo", LONGEST_NAME, default=None),
        changes=tuple(
            _read_change(change, f"changes[{number}]", schema)
            for number, change in enumerate(fields.items("changes", limits.changes))
        ),
        where=_read_where(fields.value("where", {}), schema),
        exclude=tuple(
            check_whole(each, 0, num_items - 1, f"exclude[{number}]")
            for number, each in enumerate(fields.items("exclude", limits.exclude))
        ),
        look=fields.number("look", 0.0, LARGEST_LOOK, default=None),
        k=fields.whole("k", 1, limits.k, default=20),
        counts=fields.flag("counts"),
    )
    fields.check_all_read()
    return search


def check_row(value: Any, num_items: int) -> int:
    """Returns the row of a gallery image if there is one.

    Raises:
      Refused: it is no whole number (400), or there is no such row (404).

    Example:
      >>> check_row(3, 10)
      3
    """
    if not is_whole(value):
        raise Refused(f"`item` is {quote(value)}; give a row of the gallery, from 0 to {num_items - 1}")
    if not 0 <= value < num_items:
        raise Refused(f"there is no item {int(value)}; the gallery has items 0 to {num_items - 1}", 404)
    return int(value)


def _read_change(value: Any, place: str, schema: AttributeSchema) -> Change:
    fields = Fields(value, place)
    name = fields.text("attribute", LONGEST_NAME)
    attribute = known_name(name, schema.names, "attribute", fields.path("attribute"))
    to = fields.value("to")
    if to is not None:
        to = _known_value(to, attribute, fields.path("to"), schema)
    strength = fields.number("strength", -STRONGEST, STRONGEST, default=1.0)
    most = schema.sizes[schema.names.index(attribute)]
    unwanted = tuple(
        _known_value(each, attribute, f"{fields.path('unwanted')}[{number}]", schema)
        for number, each in enumerate(fields.items("unwanted", most))
    )
    fields.check_all_read()
    if to is not None and unwanted:
        raise Refused(f"`{place}` has both `to` and `unwanted`; give `unwanted` where `to` is null")
    return Change(attribute, to, strength, unwanted)


def _known_value(value: Any, attribute: str, place: str, schema: AttributeSchema) -> str:
    values = schema.values[schema.names.index(attribute)]
    return known_name(check_text(value, LONGEST_NAME, place), values, f"{attribute}", place)


def _read_where(value: Any, schema: AttributeSchema) -> dict[str, list[str]]:
    """Returns the values that the results may have, by attribute; a single one may stand without a list."""
    if not isinstance(value, dict):
        raise Refused(f"`where` is {quote(value)}; give a JSON object of attributes and values")
    where = {}
    for name, values in value.items():
        attribute = known_name(name, schema.names, "attribute", "where")
        place = f"where.{attribute}"
        listed = values if isinstance(values, list) else [values]
        most = schema.sizes[schema.names.index(attribute)]
        if not 0 < len(listed) <= most:
            raise Refused(f"`{place}` has {len(listed):,} values; give 1 to {most}")
        where[attribute] = [_known_value(each, attribute, place, schema) for each in listed]
    return where


class Searcher:
    """Answers searches.

    Args:
      shop: the retriever.
      photos: the photographs.
      answers: what writes the answers.
    """

    def __init__(self, shop: Shop, photos: Photos, answers: Answers) -> None:
        self._shop, self._photos, self._answers = shop, photos, answers

    def answer(self, search: Search) -> bytes:
        """Returns the answer to a search, as JSON.

        Raises:
          UserError: the retriever refuses it, the photograph is no longer kept, or the item is another one
            than the client takes it for.
        """
        photo, name = search.photo, self._shop.names[search.row]
        if photo is None and search.name not in (None, name):
            raise Refused(f"the gallery has changed: item {search.row} is {quote(name)} now; reload it", 409)
        item = self._shop.item(search.row) if photo is None else self._photos.get(photo)
        edited, where = item.changes(search.changes), search.where or None
        found = edited.search(search.k, look=search.look, where=where, exclude=search.exclude)
        return self._answers.found(found, edited.counts(where) if search.counts else None)
