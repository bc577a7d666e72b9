"""Writes answers as JSON; what never changes of a gallery item is written once and kept."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradrev_jax.search.recent import Recent
from gradrev_jax.serving.found import name_labels
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.shop import Shop, ShopFound, ShopItem


def to_json(value: Any) -> bytes:
    r"""Returns a value as compact JSON, in ASCII.

    Raises:
      ValueError: it has a number that is not finite.

    Example:
      >>> to_json({"to": "weiß"})
      b'{"to":"wei\\u00df"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


class Answers:
    """Writes what is known of gallery items and photographs.

    Args:
      shop: the retriever whose items they are.
      limits: the memory of what is kept.
    """

    def __init__(self, shop: Shop, limits: Limits) -> None:
        self._shop = shop
        self._rows = Recent[int, str](limits.row_bytes, len)
        self._attributes = [json.dumps(name) for name in shop.schema.names]
        self._summary: bytes | None = None

    def attributes(self, gallery: str, version: str) -> bytes:
        """Returns the attributes, their values, and how many gallery images are labelled with each."""
        if self._summary is None:
            schema = self._shop.schema
            attributes = []
            for n, (name, values) in enumerate(zip(schema.names, schema.values, strict=True)):
                known = self._shop.labels[:, n]
                counts = np.bincount(known[known >= 0], minlength=len(values))
                listed = [
                    {"name": value, "count": int(count)} for value, count in zip(values, counts, strict=True)
                ]
                attributes.append({"name": name, "values": listed})
            self._summary = to_json(
                {
                    "gallery": gallery,
                    "version": version,
                    "items": self._shop.num_items,
                    "has_look": self._shop.has_look,
                    "look": self._shop.look,
                    "attributes": attributes,
                }
            )
        return self._summary

    def item(self, row: int) -> bytes:
        """Returns a gallery item."""
        return f"{{{self._row(row)}}}".encode("ascii")

    def items(self, rows: Sequence[int], total: int, offset: int) -> bytes:
        """Returns a part of a list of gallery items."""
        listed = ",".join(f"{{{self._row(row)}}}" for row in rows)
        return f'{{"total":{total},"offset":{offset},"items":[{listed}]}}'.encode("ascii")

    def photo(self, name: str, item: ShopItem) -> bytes:
        """Returns the id of a photograph and what is predicted of it."""
        return to_json(
            {
                "photo": name,
                "labels": name_labels(item.labels, self._shop.schema),
                "predicted": self._predicted(item),
            }
        )

    def found(self, found: ShopFound, counts: dict[str, dict[str, int]] | None) -> bytes:
        """Returns the results of a search.

        Args:
          found: the results.
          counts: the number of exact matches by attribute and value; None: not asked for.
        """
        results = ",".join(
            f'{{{self._row(row)},"distance":{distance:.6g},"matches":{"true" if matches else "false"},'
            f'"differs":[{",".join(itertools.compress(self._attributes, differs))}]}}'
            for row, distance, matches, differs in zip(
                found.rows.tolist(),
                found.distances.tolist(),
                found.matches.tolist(),
                found.differs.tolist(),
                strict=True,
            )
        )
        counted = "" if counts is None else f'"counts":{to_json(counts).decode("ascii")},'
        ending = f'"exact":{"true" if found.exact else "false"},"milliseconds":{found.milliseconds:.3f}'
        return f'{{"items":[{results}],{counted}{ending}}}'.encode("ascii")

    def _row(self, row: int) -> str:
        """Returns the fields that a gallery item has in every answer, without braces."""
        return self._rows.get_or_make(row, self._write_row)

    def _write_row(self, row: int) -> str:
        item = self._shop.item(row)
        fields = {
            "item": row,
            "name": self._shop.names[row],
            "labels": name_labels(item.labels, self._shop.schema),
            "predicted": self._predicted(item),
        }
        return to_json(fields).decode("ascii")[1:-1]

    def _predicted(self, item: ShopItem) -> dict[str, dict[str, Any]]:
        schema, predicted, all_probabilities = self._shop.schema, {}, item.probabilities
        for name, values, likeliest in zip(schema.names, schema.values, item.predicted.tolist(), strict=True):
            value = values[likeliest]
            probability = round(float(all_probabilities[name][value]), 4)
            predicted[name] = {"value": value, "probability": probability}
        return predicted
