"""An item's products with a gallery, from which its edits are computed, and a cache of them."""

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.search.recent import Recent

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


RecentProducts = Recent[Hashable, ItemProducts]


def recent_products() -> RecentProducts:
    """Creates a cache of products that is bounded by their bytes; larger ones stay in it alone."""
    return Recent(KEPT_BYTES, lambda item: min(item.products.nbytes, KEPT_BYTES))
