"""Sums of products and of squares in parts, and the most roundings that a summand passes through."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}  # the compiler's option for threads that share the cores
LANES = 16  # partial sums that run side by side in a squared norm
LEAST_SUM = 128  # the products, or few more, that one matrix product sums
SUM_ROWS = 1024  # the gallery's rows whose sums a CPU adds up at a time, so that these stay in its cache
Found = TypeVar("Found")


def _part_products(
    vectors: Float[Array, "M P d"], rows: Float[Array, "G P d"], *, by_block: bool = False
) -> Float[Array, "S M G"]:
    """Returns the products of every vector with every row, per block (S = P) or of the whole (S = 1)."""
    if by_block:
        return jax.lax.map(lambda n: _sum_products(vectors[:, n], rows[:, n]), jnp.arange(rows.shape[1]))
    return _sum_products(vectors.reshape(len(vectors), -1), rows.reshape(len(rows), -1))[None]


def _whole_and_block_products(
    vectors: Float[Array, "M P d"], rows: Float[Array, "G P d"], *, num_blocks: int
) -> tuple[Float[Array, "1 M G"], Float[Array, "N M G"]]:
    """Returns ``part_products`` of the whole, and those of the first N blocks, of the same matrix products.

    Args:
      vectors: [M, P, d].
      rows: [G, P, d].
      num_blocks: N, the number of blocks whose products are kept.
    """
    count, num_all, dim = rows.shape
    Kept = tuple[Float[Array, "M _"], Float[Array, "N M G"]]

    def add(first: Int[Array, ""] | int, size: int, found: Kept) -> Kept:
        def block_products(n: Int[Array, ""]) -> Float[Array, "M _"]:
            return short_sums(vectors[:, n], jax.lax.dynamic_slice(rows, (first, n, 0), (size, 1, dim))[:, 0])

        def keep(n: Int[Array, ""], state: Kept) -> Kept:
            product = block_products(n)
            return state[0] + product, jax.lax.dynamic_update_slice(state[1], product[None], (n, 0, first))

        total = jnp.zeros((len(vectors), size), rows.dtype)
        total, blocks = jax.lax.fori_loop(0, num_blocks, keep, (total, found[1]))
        total = jax.lax.fori_loop(num_blocks, num_all, lambda n, total: total + block_products(n), total)
        return jax.lax.dynamic_update_slice_in_dim(found[0], total, first, axis=1), blocks

    total = jnp.zeros((len(vectors), count), rows.dtype)
    blocks = jnp.zeros((num_blocks, len(vectors), count), rows.dtype)
    total, blocks = _some_rows_at_a_time(add, count, (total, blocks))
    return total[None], blocks


part_products = jax.jit(_part_products, static_argnames="by_block")
part_products_by_one_thread = jax.jit(_part_products, static_argnames="by_block", compiler_options=ONE_THREAD)
whole_and_block_products = jax.jit(_whole_and_block_products, static_argnames="num_blocks")
whole_and_block_products_by_one_thread = jax.jit(
    _whole_and_block_products, static_argnames="num_blocks", compiler_options=ONE_THREAD
)


def _sum_products(vectors: Float[Array, "M D"], rows: Float[Array, "G D"]) -> Float[Array, "M G"]:
    """Returns the products of every vector with every row."""

    def add(first: Int[Array, ""] | int, size: int, products: Float[Array, "M G"]) -> Float[Array, "M G"]:
        sums = short_sums(vectors, rows, first, size)
        return jax.lax.dynamic_update_slice_in_dim(products, sums, first, axis=1)

    return _some_rows_at_a_time(add, len(rows), jnp.zeros((len(vectors), len(rows)), rows.dtype))


def _some_rows_at_a_time(
    add: Callable[[Int[Array, ""] | int, int, Found], Found], count: int, found: Found
) -> Found:
    """Calls a function for all of the gallery's rows at once, or on a CPU for as many as its cache holds.

    Args:
      add: (first row, number of rows, result so far) -> the result that includes these rows.
      count: the number of all rows.
      found: what is found without any.
    """
    if jax.default_backend() != "cpu" or count <= SUM_ROWS:
        return add(0, count, found)
    steps = -(-count // SUM_ROWS)
    size = -(-count // steps)

    def step(i: Int[Array, ""], found: Found) -> Found:
        # The last step repeats a few rows, so that all have one size.
        return add(jnp.minimum(i * size, count - size), size, found)

    return jax.lax.fori_loop(0, steps, step, found)


def short_sums(
    vectors: Float[Array, "M D"],
    rows: Float[Array, "G D"],
    first: Int[Array, ""] | int = 0,
    count: int | None = None,
) -> Float[Array, "M _"]:
    """Multiplies vectors with rows, adding products up in short sums, which round less than one long sum.

    Args:
      vectors: [M, D].
      rows: [G, D].
      first: the first of the rows to multiply with.
      count: the number of these rows; None: all.
    """
    num_rows = len(rows) if count is None else count

    def product(start: Int[Array, ""] | int, width: int) -> Float[Array, "M _"]:
        a = jax.lax.dynamic_slice_in_dim(vectors, start, width, axis=1)
        b = jax.lax.dynamic_slice(rows, (first, start), (num_rows, width))
        # Highest precision: TF32, a GPU's default, would need an error bound a thousand times as wide.
        return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)

    width = sum_width(vectors.shape[1])
    num_full, last = divmod(vectors.shape[1] - 1, width)
    total = product(num_full * width, last + 1)
    if not num_full:
        return total
    return jax.lax.fori_loop(0, num_full, lambda i, total: total + product(i * width, width), total)


def sum_width(width: int) -> int:
    """Returns the length of the short sums that a sum of ``width`` products is split into.

    Shorter sums err less, and so leave fewer rows in doubt; but matrix products of fewer than about LEAST_SUM
    columns take longer than the doubt does.

    Args:
      width: the number of products in the sum.

    Example:
      >>> sum_width(340), sum_width(4080)
      (170, 132)
    """
    return -(-width // max(1, width // LEAST_SUM))


def sum_operations(width: int) -> int:
    """Returns an upper bound of the roundings that a product passes through in the sum of a width.

    Args:
      width: the number of products in the sum.

    Example:
      >>> sum_operations(340), sum_operations(4080)
      (171, 162)
    """
    return sum_width(width) + -(-width // sum_width(width)) - 1


def square_norms(rows: Float[Array, "M P d"]) -> Float[Array, " M"]:
    """Returns squared norms, each of three short sums instead of a long one, for a smaller rounding error."""
    lanes = jnp.pad(jnp.square(rows), ((0, 0), (0, 0), (0, -rows.shape[-1] % LANES)))
    # Without the barriers, XLA would merge the three sums into one.
    lanes = jax.lax.optimization_barrier(lanes.reshape(*rows.shape[:2], -1, LANES).sum(axis=2))
    blocks = jax.lax.optimization_barrier(lanes.sum(axis=2))
    return blocks.sum(axis=1)


def norm_operations(num_blocks: int, dim: int) -> int:
    """Returns an upper bound of the roundings that a term of ``square_norms`` passes through.

    Args:
      num_blocks: P, the number of blocks per row.
      dim: d, the width of a block.

    Example:
      >>> norm_operations(12, 340)
      50
    """
    return LANES + -(-dim // LANES) + num_blocks
