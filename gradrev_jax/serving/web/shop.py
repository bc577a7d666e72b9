"""What the server asks of a retriever: the part of its interface that answers need."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gradrev_jax.core.attributes import AttributeSchema


@runtime_checkable
class ShopFound(Protocol):
    """What a search has found, best first."""

    rows: np.ndarray  # int [k]
    distances: np.ndarray  # float [k]
    matches: np.ndarray  # bool [k]
    differs: np.ndarray  # bool [k, N]
    milliseconds: float
    exact: bool  # whether no other is nearer


@runtime_checkable
class ShopItem(Protocol):
    """A gallery image or a photograph, perhaps edited, that can be searched with."""

    labels: np.ndarray  # int [N], -1 = unknown
    predicted: np.ndarray  # int [N]
    probabilities: Mapping[str, Mapping[str, float]]

    def changes(self, changes: Sequence[Any]) -> Any:
        """Returns the item with changes."""

    def search(
        self,
        k: int = 20,
        *,
        look: float | None = None,
        where: Mapping[str, Any] | None = None,
        exclude: Iterable[int] = (),
    ) -> Any:
        """Returns the nearest gallery images."""


@runtime_checkable
class Shop(Protocol):
    """A gallery that can be searched by edits."""

    schema: AttributeSchema
    name: str
    num_items: int
    names: Sequence[str]
    labels: np.ndarray  # int [G, N], -1 = not labelled
    predicted: np.ndarray  # int [G, N]
    has_look: bool
    look: float | None

    def item(self, row: int) -> Any:
        """Returns a gallery image."""

    def photo(self, photo: bytes) -> Any:
        """Returns the item of a photograph."""

    def picture(self, row: int, size: int | None = None) -> bytes:
        """Returns the JPEG of a gallery image."""

    def warm(self) -> None:
        """Loads what photographs need."""
