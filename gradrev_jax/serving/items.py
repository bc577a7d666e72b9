"""An item that a person looks at, and changes of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.serving.changes import Change, Described, Removes, check_changes
from gradrev_jax.serving.found import Found
from gradrev_jax.serving.matching import (
    ANYTHING,
    Where,
    are_likely,
    are_wanted,
    unlikely_values,
    unwanted_values,
    wanted_labels,
    wanted_where,
)


@runtime_checkable  # beartype, which checks signatures in the tests, refuses a Protocol without it
class Shop(Protocol):
    """Represents the part of a ``Retriever`` that its items need."""

    labels: Int[np.ndarray, "G N"]
    is_labelled: Bool[np.ndarray, " N"]  # whether any garment is, by attribute

    @property
    def ignores_missing(self) -> bool:
        """Whether missing labels were ignored in training, and are no value of their own."""
        ...

    @property
    def schema(self) -> AttributeSchema:
        """The attributes and their values."""
        ...

    def allowed(self, where: Where | None, exclude: Sequence[int | str]) -> Bool[np.ndarray, " G"] | None:
        """Returns which rows may be found."""
        ...

    def search(
        self,
        edited: "Edited",
        k: int = 20,
        *,
        look: float | None = None,
        where: Where | None = None,
        exclude: int | str | Sequence[int | str] = (),
        removes: Removes = "label",
    ) -> Found:
        """Finds the garments nearest to an edited item."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Item:
    """Represents a garment of the gallery, or of a photograph, as ``Retriever`` gives it.

    Attributes:
      blocks: the item as the search compares it, neither weighted nor normalised, [P, w].
      described: what is known of it.
      row: its row in the gallery; None: a photograph.
    """

    shop: Shop = dataclasses.field(repr=False)
    blocks: Float[np.ndarray, "P w"] = dataclasses.field(repr=False)
    described: Described
    row: int | None = None

    @property
    def labels(self) -> Int[np.ndarray, " N"]:
        """Its labels, [N], -1 = not labelled."""
        return self.described.labels

    @property
    def predicted(self) -> Int[np.ndarray, " N"]:
        """The value that each attribute's classifier finds likeliest, [N]."""
        return self.described.predicted

    @property
    def probabilities(self) -> dict[str, dict[str, float]]:
        """The probability of every value, by attribute and value."""
        schema, numbers = self.shop.schema, self.described.probabilities.tolist()
        return {
            name: dict(zip(values, numbers[offset : offset + len(values)], strict=True))
            for name, values, offset in zip(schema.names, schema.values, schema.offsets, strict=True)
        }

    def change(self, *, strength: float = 1.0, **values: str | None) -> "Edited":
        """Returns the item with attributes changed.

        Args:
          strength: the factor of the changes.
          **values: the new value by attribute; None removes what there is. An attribute whose name is no
            Python word goes through ``changes``.

        Raises:
          ConfigError: an unknown attribute or value; the message has the nearest names.
        """
        return Edited(self, ()).change(strength=strength, **values)

    def changes(self, changes: Sequence[Change]) -> "Edited":
        """Returns the item with changes.

        Args:
          changes: the changes, in the order in which they were asked for.

        Raises:
          ConfigError: an unknown attribute or value; the message has the nearest names.
        """
        return Edited(self, ()).changes(changes)

    def search(self, k: int = 20, **options: Any) -> Found:
        """Finds the garments nearest to the item as it is; see ``Edited.search``."""
        return Edited(self, ()).search(k, **options)


@dataclasses.dataclass(frozen=True, eq=False)
class Edited:
    """Represents an item with changes, which can be taken back.

    Attributes:
      item: the item.
      asked: the changes, in the order in which they were asked for; the last of an attribute counts.
    """

    item: Item
    asked: tuple[Change, ...]

    def change(self, *, strength: float = 1.0, **values: str | None) -> "Edited":
        """Returns the item with more attributes changed; see ``Item.change``."""
        return self.changes([Change(name, value, strength) for name, value in values.items()])

    def changes(self, changes: Sequence[Change]) -> "Edited":
        """Returns the item with more changes; see ``Item.changes``."""
        check_changes(changes, self.item.shop.schema)
        return Edited(self.item, (*self.asked, *changes))

    def back(self) -> "Edited":
        """Returns the item without its last change; without any, as it is."""
        return Edited(self.item, self.asked[:-1])

    @property
    def wanted(self) -> Int[np.ndarray, " N"]:
        """The labels asked for, [N], without any filter; see ``wanted_among``."""
        return self.wanted_among(None)

    def wanted_among(self, where: Where | None) -> Int[np.ndarray, " N"]:
        """Returns the labels asked for, [N], see ``wanted_labels``.

        Of a photograph, an attribute that is not changed is to have its likely value, if it has one, and
        otherwise any; so it is of a garment, where no garment is labelled for it. Of a garment that is not
        labelled for it, where missing labels were ignored in training, results may have no label either, and
        none but its likely value; see ``unwanted``. An attribute that is not changed, but filtered by one
        value, is to have that.

        Args:
          where: the labels that results must have, by attribute; None: any.
        """
        item, shop, known = self.item.described, self.item.shop, self.item.labels
        likely = np.where(are_likely(item, shop.schema), item.predicted, ANYTHING)
        if self.item.row is None:
            known = likely
        else:
            unknown = np.where(shop.is_labelled, ANYTHING if shop.ignores_missing else NOT_LABELLED, likely)
            known = np.where(known == NOT_LABELLED, unknown, known)
        filtered = wanted_where(np.asarray(known), where or {}, shop.schema)
        return wanted_labels(filtered, self.asked, shop.schema)

    def unwanted(self, removes: Removes = "label") -> Bool[np.ndarray, " J"]:
        """Returns the values that results must not have, [J]: the unwanted and the unlikely ones.

        Args:
          removes: what Eq. 7 takes away, as for ``search``.
        """
        item, schema = self.item.described, self.item.shop.schema
        unwanted = unwanted_values(self.asked, item, schema, removes)
        if self.item.row is None or not self.item.shop.ignores_missing:
            return unwanted
        return unwanted | unlikely_values(self.asked, item, schema)

    def search(
        self,
        k: int = 20,
        *,
        look: float | None = None,
        where: Where | None = None,
        exclude: int | str | Sequence[int | str] = (),
        removes: Removes = "label",
    ) -> Found:
        """Finds the garments nearest to the item as changed; none that is labelled with an unwanted value.

        Args:
          k: the number of garments; fewer are found if fewer are left.
          look: the weight of how garments look against what they are; None: the one of the run. Only where
            the run compares looks.
          where: the labels that garments must have, by attribute: a value, or several.
          exclude: rows or names of garments that are left out, or one of them.
          removes: what Eq. 7 takes away of an attribute that changes: the ``label`` (without one, as
            ``predicted``), the ``predicted`` value, or what is ``expected`` by the probabilities.

        Raises:
          ConfigError: an unknown attribute, value or name, or a number out of range.
        """
        return self.item.shop.search(self, k, look=look, where=where, exclude=exclude, removes=removes)

    def counts(self, where: Where | None = None) -> dict[str, dict[str, int]]:
        """Counts the garments that match exactly, for each attribute with each value in place.

        Args:
          where: the labels that garments must have.
        """
        shop, wanted = self.item.shop, self.wanted_among(where)
        allowed = shop.allowed(where, ())
        labels = shop.labels if allowed is None else shop.labels[allowed]
        right = are_wanted(labels, wanted, self.unwanted(), shop.schema)
        counts = {}
        for n, (name, values) in enumerate(zip(shop.schema.names, shop.schema.values, strict=True)):
            others = labels[right.sum(axis=1) - right[:, n] == len(wanted) - 1, n]
            found = np.bincount(others[others != NOT_LABELLED], minlength=len(values))
            counts[name] = dict(zip(values, found.tolist(), strict=True))
        return counts
