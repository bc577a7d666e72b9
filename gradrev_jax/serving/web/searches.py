"""Reads the request of a search, and answers it."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.serving.web.answers import Answers
from gradrev_jax.serving.web.caches import Recent
from gradrev_jax.serving.web.fields import Fields, check_text, check_whole, known_name
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.photos import Photos
from gradrev_jax.serving.web.refusals import Refused, quote
from gradrev_jax.serving.web.shop import Shop

STRONGEST = 10.0  # of a change, in either direction
MOST_LOOK = 10.0
LONGEST_NAME = 1000  # characters of a value or of a photograph's id


class WantedChange(NamedTuple):
    """One change of an attribute, as a retriever takes it."""

    attribute: str
    to: str | None
    strength: float = 1.0


class Search(NamedTuple):
    """A checked request: what is searched with, and how."""

    row: int | None
    photo: str | None
    changes: tuple[WantedChange, ...]
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
      ((WantedChange(attribute='color', to='red', strength=1.0),), 20)
      >>> read_search({"item": 10}, schema, 10, Limits())
      Traceback (most recent call last):
      gradrev_jax.serving.web.refusals.Refused: there is no item 10; the gallery has items 0 to 9
    """
    fields = Fields(value)
    if ("item" in fields) == ("photo" in fields):
        raise Refused("give either `item`, a row of the gallery, or `photo`, the id of a photograph")
    row = check_row(fields.value("item"), num_items) if "item" in fields else None
    search = Search(
        row=row,
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
        look=fields.number("look", 0.0, MOST_LOOK, default=None),
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
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"`item` is {quote(value)}; give a row of the gallery, from 0 to {num_items - 1}")
    if not 0 <= value < num_items:
        raise Refused(f"there is no item {value}; the gallery has items 0 to {num_items - 1}", 404)
    return value


def _read_change(value: Any, place: str, schema: AttributeSchema) -> WantedChange:
    fields = Fields(value, place)
    name = fields.text("attribute", LONGEST_NAME)
    attribute = known_name(name, schema.names, "attribute", fields.path("attribute"))
    to = fields.value("to")
    if to is not None:
        to = _known_value(to, attribute, fields.path("to"), schema)
    change = WantedChange(attribute, to, fields.number("strength", -STRONGEST, STRONGEST, default=1.0))
    fields.check_all_read()
    return change


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
    """Answers searches; picked items are kept, and with them their products with the gallery.

    Args:
      shop: the retriever.
      photos: the photographs.
      answers: what writes the answers.
      limits: the number of items kept.
    """

    def __init__(self, shop: Shop, photos: Photos, answers: Answers, limits: Limits) -> None:
        self._shop, self._photos, self._answers = shop, photos, answers
        self._items = Recent[int | None, Any](limits.items)

    def answer(self, search: Search) -> bytes:
        """Returns the answer to a search, as JSON.

        Raises:
          UserError: the retriever refuses it, or the photograph is no longer kept.
        """
        if search.photo is None:
            item = self._items.get_or_make(search.row, self._open)
        else:
            item = self._photos.get(search.photo)
        edited = item.changes(search.changes) if search.changes else item
        found = edited.search(search.k, look=search.look, where=search.where or None, exclude=search.exclude)
        counts = self._count(search, item) if search.counts else None
        return self._answers.found(found, counts)

    def _open(self, row: int | None) -> Any:
        assert row is not None
        return self._shop.item(row)

    def _count(self, search: Search, item: Any) -> dict[str, dict[str, int]]:
        """Returns how many gallery images match exactly, by attribute and the value in its place."""
        schema, labels = self._shop.schema, self._shop.labels
        wanted = wanted_labels(item.labels, search.changes, schema)
        allowed = np.ones(len(labels), bool)
        allowed[list(search.exclude)] = False
        for name, values in search.where.items():
            n = schema.names.index(name)
            allowed &= np.isin(labels[:, n], [schema.values[n].index(value) for value in values])
        counts = count_matches(labels, wanted, schema, allowed)
        return {
            name: dict(zip(values, each.tolist(), strict=True))
            for name, values, each in zip(schema.names, schema.values, counts, strict=True)
        }


def wanted_labels(
    labels: Int[np.ndarray, " N"], changes: tuple[WantedChange, ...], schema: AttributeSchema
) -> Int[np.ndarray, " N"]:
    """Returns the labels that changes ask for.

    Args:
      labels: the labels of the item, -1 where it has none.
      changes: the changes, the later ones in place of the earlier.
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color", "sleeve"), (("blue", "red"), ("long", "short")))
      >>> wanted_labels(np.array([0, 1]), (WantedChange("color", "red"),), schema)
      array([1, 1])
    """
    wanted = labels.copy()
    for attribute, to, _ in changes:
        n = schema.names.index(attribute)
        wanted[n] = NOT_LABELLED if to is None else schema.values[n].index(to)
    return wanted


def count_matches(
    labels: Int[np.ndarray, "G N"],
    wanted: Int[np.ndarray, " N"],
    schema: AttributeSchema,
    allowed: Bool[np.ndarray, " G"],
) -> list[Int[np.ndarray, " J"]]:
    """Counts the gallery images that have all wanted labels but one, by the value of that one.

    Args:
      labels: the labels of the gallery, -1 where it has none.
      wanted: the labels that are asked for; -1: any will do.
      schema: the attributes.
      allowed: the images that count.

    Returns:
      The number of images for each value, of each attribute.

    Example:
      >>> schema = AttributeSchema(("color", "sleeve"), (("blue", "red"), ("long", "short")))
      >>> gallery = np.array([[0, 0], [0, 1], [1, 1]])
      >>> [each.tolist() for each in count_matches(gallery, np.array([0, 1]), schema, np.ones(3, bool))]
      [[1, 1], [1, 1]]
    """
    right = (labels == wanted) | (wanted == NOT_LABELLED)
    num_wrong = schema.num_attributes - right.sum(axis=1)
    near = allowed & (num_wrong <= 1)
    labels, right, num_wrong = labels[near], right[near], num_wrong[near]
    counts = []
    for n, size in enumerate(schema.sizes):
        others_right = (num_wrong == 0) | ~right[:, n]
        values = labels[others_right, n]
        counts.append(np.bincount(values[values != NOT_LABELLED], minlength=size))
    return counts
