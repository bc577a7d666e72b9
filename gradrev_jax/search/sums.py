"""Sums of products and of squares in parts, and the most roundings that a summand passes through."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}  # the compiler's option for threads that share the cores
LANES = 16  # partial sums that run side by side in a squared norm
SUM_ROWS = 2048  # the gallery's rows whose sums a CPU adds up at a time, so that these stay in its cache


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
    """Returns ``part_products`` of the whole, and those of the first N blocks, at the cost of the former.

    Args:
      vectors: [M, P, d].
      rows: [G, P, d].
      num_blocks: N, the number of blocks whose products are kept.
    """

    def block(
        total: Float[Array, "M G"], n: Int[Array, ""]
    ) -> tuple[Float[Array, "M G"], Float[Array, "M G"]]:
        product = _sum_products(vectors[:, n], rows[:, n])
        return total + product, product

    start = jnp.zeros((len(vectors), len(rows)), rows.dtype)
    total, blocks = jax.lax.scan(block, start, jnp.arange(num_blocks))
    rest = jnp.arange(num_blocks, rows.shape[1])
    return jax.lax.scan(lambda total, n: (block(total, n)[0], None), total, rest)[0][None], blocks


part_products = jax.jit(_part_products, static_argnames="by_block")
part_products_by_one_thread = jax.jit(_part_products, static_argnames="by_block", compiler_options=ONE_THREAD)
whole_and_block_products = jax.jit(_whole_and_block_products, static_argnames="num_blocks")
whole_and_block_products_by_one_thread = jax.jit(
    _whole_and_block_products, static_argnames="num_blocks", compiler_options=ONE_THREAD
)


def _sum_products(vectors: Float[Array, "M D"], rows: Float[Array, "G D"]) -> Float[Array, "M G"]:
    """Returns the products of every vector with every row, on a CPU some rows at a time."""
    if jax.default_backend() != "cpu" or len(rows) <= SUM_ROWS:
        return short_sums(vectors, rows)

    def add(i: Int[Array, ""], products: Float[Array, "M G"]) -> Float[Array, "M G"]:
        first = jnp.minimum(i * SUM_ROWS, len(rows) - SUM_ROWS)  # the last step repeats some rows
        sums = short_sums(vectors, rows, first, SUM_ROWS)
        return jax.lax.dynamic_update_slice_in_dim(products, sums, first, axis=1)

    products = jnp.zeros((len(vectors), len(rows)), rows.dtype)
    return jax.lax.fori_loop(0, -(-len(rows) // SUM_ROWS), add, products)


def short_sums(
    vectors: Float[Array, "M D"],
    rows: Float[Array, "G D"],
    first: Int[Array, ""] | int = 0,
    count: int | None = None,
) -> Float[Array, "M _"]:
    """Returns products by short sums, whose sums have a smaller rounding error than one long sum.

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
    """Returns how many of a sum's products one matrix product sums.

    The root of the width would err least. Three times as much takes less time, and errs little more.

    Args:
      width: the number of products in the sum.

    Example:
      >>> sum_width(340), sum_width(4080)
      (57, 195)
    """
    return -(-width // max(1, int(width**0.5 / 3)))


def sum_operations(width: int) -> int:
    """Returns an upper bound of the roundings that a product passes through in the sum of a width.

    Args:
      width: the number of products in the sum.

    Example:
      >>> sum_operations(340), sum_operations(4080)
      (62, 215)
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
