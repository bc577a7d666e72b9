r"""Search with one item that a person edits: any strengths, weights that may change, and filters.

``ManipulationIndex`` answers many queries whose weights are fixed. A person looks at one item, moves a slider
and filters. So what depends on the item alone, its products with the gallery's blocks, is computed once; an
edit, a weight or a filter then costs a few additions per gallery row.

The products are sums of float32 numbers, and each has a bound on its rounding error. The rows whose lower
bound lies below the k-th upper bound are all that can be among the k nearest; they alone are compared by
direct sums of (q - g)² in float64. So the result is exact.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from gradrev_jax.core.arguments import whole_number
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.search.block_comparison import BlockComparison, inverse
from gradrev_jax.search.item_products import ItemProducts, RecentProducts, recent_products

ROUNDING = 2.0**-24  # of float32, relative
ROUNDING_OF_SUMS = 1e-13  # of the sums of products, in float64; far above what it can be
ROWS_AT_ONCE = 4096  # of the gallery, in float64


class ItemEdit(NamedTuple):
    """Represents an edit of one item: f' = f, without the blocks that are replaced, + factors · memory.

    Attributes:
      factors: the factor of each prototype, [J].
      replaced: the attributes whose blocks are taken out, [N].
      emptied: those of them that get the block of an attribute without a value, [N].
    """

    factors: Float[np.ndarray, " J"]
    replaced: Bool[np.ndarray, " N"]
    emptied: Bool[np.ndarray, " N"]


class Hits(NamedTuple):
    """Represents the nearest rows of a gallery.

    Attributes:
      rows: the rows, nearest first, equally near ones in ascending order, [k].
      distances: their distances, [k].
    """

    rows: Int[np.ndarray, " k"]
    distances: Float[np.ndarray, " k"]


# One summand of an edited item: a factor, what it multiplies, and the groups in which it counts, [C].
_Term = tuple[float, ItemProducts, Bool[np.ndarray, " C"]]


@dataclasses.dataclass(frozen=True)
class ItemGallery:
    """A gallery prepared for searches with one item at a time; it may be searched by several threads.

    Attributes:
      blocks: the gallery, not normalised, float32 [G, P, w]; it may be memory-mapped.
      memory: the prototypes, [J, P, w].
      absent: the blocks of attributes whose value is removed without another, [N, w].
      comparison: how an edited item and the gallery's rows are compared.

    Example:
      >>> gallery = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8]]], np.float32)
      >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)  # blue and red
      >>> searched = ItemGallery.build(gallery, memory, np.zeros((1, 2), np.float32))
      >>> item, none = searched.products(gallery[0]), np.array([False])
      >>> searched.search(item, ItemEdit(np.array([-1.0, 1.0]), none, none), k=2).rows.tolist()
      [1, 2]
    """

    blocks: Float[np.ndarray, "G P w"]
    memory: Float[np.ndarray, "J P w"]
    absent: Float[np.ndarray, "N w"]
    comparison: BlockComparison
    _prototypes: RecentProducts = dataclasses.field(default_factory=recent_products, repr=False)

    @classmethod
    def build(
        cls,
        blocks: Float[np.ndarray, "G P w"],
        memory: Float[np.ndarray, "J P w"],
        absent: Float[np.ndarray, "N w"],
        normalize: Normalization = "global",
        weights: Float[np.ndarray, " P"] | None = None,
    ) -> "ItemGallery":
        """Prepares a gallery.

        Args:
          blocks: the gallery, not normalised, float32 [G, P, w].
          memory: the prototypes, [J, P, w].
          absent: the blocks of attributes whose value is removed without another, [N, w].
          normalize: the normalisation after the edit.
          weights: the weight of each block, as ``scale_weights`` returns them, [P]; those of blocks that
            belong to no attribute are equal. None: all 1.
        """
        comparison = BlockComparison.of_blocks(blocks.shape[1], len(absent), normalize, weights)
        return cls(blocks, memory, absent, comparison)

    @functools.cached_property
    def norms(self) -> Float[np.ndarray, "C G"]:
        """The lengths of the gallery's groups."""
        groups = self.comparison.groups
        squares = np.empty((len(groups), len(self.blocks)))
        for start in range(0, len(self.blocks), ROWS_AT_ONCE):
            rows = np.asarray(self.blocks[start : start + ROWS_AT_ONCE], np.float64)
            for c, group in enumerate(groups):
                squares[c, start : start + len(rows)] = np.square(rows[:, group]).sum(axis=(1, 2))
        return np.sqrt(squares)

    @functools.cached_property
    def row_lengths(self) -> Float[np.ndarray, "C G"]:
        """The lengths of the rows' groups in the distance: where each group is normalised by itself, 1."""
        return self.comparison.row_lengths(self.norms)

    @functools.cached_property
    def _squared_row_lengths(self) -> Float[np.ndarray, "C G"]:
        return self.row_lengths**2

    def products(self, item: Float[np.ndarray, "P w"]) -> ItemProducts:
        """Multiplies an item with the gallery, the costly part of a search.

        Args:
          item: the item, not normalised, [P, w].
        """
        item, groups = np.asarray(item, np.float32), self.comparison.groups
        present = np.array([c for c, group in enumerate(groups) if item[group].any()], int)
        products = np.empty((len(present), len(self.blocks)))
        for position, c in enumerate(present.tolist()):
            rows = self.blocks[:, groups[c]].reshape(len(self.blocks), -1)
            # A power of two, which rounds nothing, so that products neither overflow nor underflow.
            exponent = int(np.frexp(np.abs(item[groups[c]]).max() * self.norms[c].max(initial=0))[1])
            scaled = np.ldexp(item[groups[c]].reshape(-1), -exponent)
            products[position] = np.ldexp((rows @ scaled).astype(np.float64), exponent)
        if self.comparison.normalize == "attribute":
            products *= inverse(self.norms[present])
        return ItemProducts(item, present, products, self.comparison.lengths(item))

    def search(
        self,
        item: ItemProducts,
        edit: ItemEdit,
        k: int,
        *,
        rest: float = 1.0,
        allowed: Bool[np.ndarray, " G"] | None = None,
    ) -> Hits:
        """Finds the k rows nearest to an edited item.

        Args:
          item: the item and its products, from ``products``.
          edit: the edit.
          k: the number of rows; fewer are returned if fewer are allowed.
          rest: the factor of the weight of what belongs to no attribute; see ``BlockComparison.with_rest``.
          allowed: the rows that may be found, [G]; None: all.

        Raises:
          ValueError: k is below 1, or a factor is not finite.
        """
        k = whole_number(k, "k")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not np.isfinite(edit.factors).all():
            raise ValueError("the factors of an edit must be finite")
        comparison, query = self.comparison.with_rest(rest), self.edit(item.blocks, edit)
        squares, errors = self._squares(comparison, query, self._terms(item, edit))
        rows = np.arange(len(squares)) if allowed is None else np.flatnonzero(allowed)
        k = min(k, len(rows))
        if not k:
            return Hits(np.zeros(0, np.int64), np.zeros(0))
        upper, lower = (squares + errors)[rows], (squares - errors)[rows]
        rows = rows[lower <= np.partition(upper, k - 1)[k - 1]]
        return nearest_of(rows, self.blocks, query, comparison, k)

    def edit(self, item: Float[np.ndarray, "P w"], edit: ItemEdit) -> Float[np.ndarray, "P w"]:
        """Edits an item, in float64; see ``manipulate`` and ``replace_blocks``.

        Args:
          item: the item, [P, w].
          edit: the edit.
        """
        edited = np.array(item, np.float64)
        edited[: len(edit.replaced)][edit.replaced] = 0
        values = np.flatnonzero(edit.factors)
        edited += np.einsum("v,vpw->pw", edit.factors[values], np.asarray(self.memory[values], np.float64))
        edited[: len(edit.emptied)][edit.emptied] += self.absent[edit.emptied]
        return edited

    def _terms(self, item: ItemProducts, edit: ItemEdit) -> list[_Term]:
        """Lists the summands of an edited item's products."""
        every = np.ones(len(self.comparison.groups), bool)
        kept = every.copy()
        kept[: len(edit.replaced)] &= ~edit.replaced
        values = np.flatnonzero(edit.factors).tolist()
        terms = [(1.0, item, kept)]
        terms += [(float(edit.factors[v]), self._of_prototype(v), every) for v in values]
        terms += [(1.0, self._of_absent(n), every) for n in np.flatnonzero(edit.emptied).tolist()]
        return terms

    def _of_prototype(self, value: int) -> ItemProducts:
        return self._prototypes.get_or_make(value, lambda _: self.products(self.memory[value]))

    def _of_absent(self, attribute: int) -> ItemProducts:
        block = np.zeros(self.blocks.shape[1:], np.float32)
        block[attribute] = self.absent[attribute]
        return self._prototypes.get_or_make(("absent", attribute), lambda _: self.products(block))

    def _squares(
        self, comparison: BlockComparison, query: Float[np.ndarray, "P w"], terms: list[_Term]
    ) -> tuple[Float[np.ndarray, " G"], Float[np.ndarray, " G"]]:
        """Returns the squared distances of all rows by their products, and bounds on their errors."""
        scales = comparison.scales(comparison.lengths(query), self._squared_row_lengths)
        widths = np.array([self.blocks[0, group].size for group in comparison.groups])
        relative = (widths + 2) * ROUNDING / (1 - (widths + 2) * ROUNDING)
        dots, bounds = np.zeros(len(self.blocks)), np.zeros(len(relative))
        for factor, term, counted in terms:
            factors = factor * scales.of_groups * counted
            dots += factors[term.groups] @ term.products
            bounds += np.abs(factors) * relative * term.norms
        dots *= scales.of_rows
        errors = scales.of_rows * (bounds @ self.row_lengths)
        sums = ROUNDING_OF_SUMS * (scales.constant + 2 * np.abs(dots))
        return scales.constant - 2 * dots, 2 * errors + sums


def nearest_of(
    rows: Int[np.ndarray, " m"],
    blocks: Float[np.ndarray, "G P w"],
    query: Float[np.ndarray, "P w"],
    comparison: BlockComparison,
    k: int,
) -> Hits:
    """Finds the k nearest of some rows by direct sums of (q - g)², in float64.

    Args:
      rows: the rows that are compared, at least k.
      blocks: the gallery, not normalised, [G, P, w].
      query: the edited item, not normalised, [P, w].
      comparison: how they are compared.
      k: the number of rows that are returned.
    """
    compared, squares = comparison.apply(query[None]), np.empty(len(rows))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        difference = comparison.apply(blocks[part]) - compared
        squares[start : start + len(part)] = np.square(difference).sum(axis=(1, 2))
    nearest = np.lexsort((rows, squares))[:k]
    return Hits(rows[nearest], np.sqrt(squares[nearest]))
