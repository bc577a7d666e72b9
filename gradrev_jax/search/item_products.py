"""An item's products with a gallery, which edits of it are sums of, and how those of several are kept."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

KEPT_BYTES = 2**28


class ItemProducts(NamedTuple):
    """Represents an item, or a prototype, and its products with a gallery.

    Attributes:
      blocks: the item, [P, w].
      groups: its groups of blocks that are not zero, [c]: of a prototype most often one.
      products: the products of these groups with those of the gallery's rows, which are normalised where each
        is by itself, [c, G].
      norms: the lengths of its groups, [C].
    """

    blocks: Float[np.ndarray, "P w"]
    groups: Int[np.ndarray, " c"]
    products: Float[np.ndarray, "c G"]
    norms: Float[np.ndarray, " C"]


class RecentProducts:
    """The products that were asked for last, up to a number of bytes; several threads may ask.

    Args:
      most: the number of bytes.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most, self._kept, self._lock = most, OrderedDict[Hashable, ItemProducts](), Lock()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], ItemProducts]) -> ItemProducts:
        """Returns the products of a key; makes them if they are not kept.

        Args:
          key: what they are the products of.
          make: a function that makes them.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept:  # another thread may have made it, too
                self._kept[key] = made
                self._bytes += made.products.nbytes
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].products.nbytes
        return made

    def keys(self) -> list[Hashable]:
        """Returns the keys of what is kept, the one that was asked for last at the end."""
        return list(self._kept)
