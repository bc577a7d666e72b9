"""Search with one item that is manipulated again and again."""

import dataclasses

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import refuse_traced
from gradrev_jax.search.arguments import UNTRACEABLE, validate_k
from gradrev_jax.search.batching import search_references
from gradrev_jax.search.changes import Replacement, make_changes
from gradrev_jax.search.neighbors import Neighbors, as_neighbors
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.references import References


@dataclasses.dataclass(frozen=True)
class ManipulationSession:
    """One item to manipulate repeatedly; see ``ManipulationIndex.session``.

    A manipulation costs a few additions per gallery row, whatever the width of the features.

    Attributes:
      products: the products of the gallery and the memory.
      replacement: what an edit replaces; None: nothing (Eq. 7).
      references: the item and its products with the gallery.
      reference_id: the item's gallery row; None if it is not in the gallery.
    """

    products: GalleryProducts
    replacement: Replacement | None
    references: References
    reference_id: int | None

    def search(
        self,
        indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
        k: int,
        *,
        strength: float = 1.0,
        exclude_reference: bool = False,
    ) -> Neighbors:
        """Finds the k gallery rows nearest to each manipulation of the item.

        Args:
          indicators: [Q, J], the edits, most often of one query; see ``ManipulationIndex.search``.
          k: the number of neighbours.
          strength: the factor of the edits.
          exclude_reference: whether the item itself is left out of the result.

        Returns:
          Indices and distances, [Q, k], as from ``ManipulationIndex.search``.

        Raises:
          ValueError: as for ``ManipulationIndex.search``; an item to exclude that is not in the gallery.
        """
        refuse_traced(UNTRACEABLE, indicators, strength)
        if np.ndim(indicators) != 2:
            raise ValueError(
                f"indicators must be [Q, J], got {np.shape(indicators)}; of one query, give indicator[None]"
            )
        if exclude_reference and self.reference_id is None:
            raise ValueError("exclude_reference needs an item of the gallery's, not features")
        k = validate_k(k, len(self.products.rows), exclude_reference=exclude_reference)
        changes = make_changes(
            indicators, strength, self.products.memory, self.replacement, num_queries=len(indicators)
        )
        position = np.zeros(len(indicators), int)  # all queries edit the only reference
        indices, distances = search_references(
            self.products, self.references, position, changes, k + exclude_reference
        )
        excluded = np.full(len(indicators), self.reference_id) if exclude_reference else None
        return as_neighbors(indices, distances, excluded)
