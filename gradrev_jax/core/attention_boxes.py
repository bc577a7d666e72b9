"""Activation maps of attributes, the box of each, and what a map of features shows inside it (FSN).

Class activation mapping (Zhou et al., 2016), as FashionSearchNet uses it for every attribute (Ak et al.,
2018): what a classifier reads from the mean over an image, it reads from every cell of the map.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import check_integers, whole_number


def activation_maps(
    maps: Float[Array | np.ndarray, "B h w C"],
    kernel: Float[Array | np.ndarray, "C J"],
    values: Int[Array | np.ndarray, "B N"],
) -> Float[Array, "B N h w"]:
    r"""Computes where in an image a classifier sees each of some values.

    .. math::
        M_n(i, j) = \sum_c w_{c v_n} A_{ijc}

    The mean of M_n over the image is the classifier's logit of v_n for the mean of the map, less its bias.

    Args:
      maps: A, the map that the classifier reads the mean of, [B, h, w, C].
      kernel: w, the classifier's weights, [C, J].
      values: v, the value of each attribute, as a column of ``kernel``, [B, N].

    Raises:
      ValueError: values that are no integers, or numbers of images or channels that disagree.

    Example:
      >>> maps = jnp.array([[[[1.0, 0.0], [0.0, 2.0]]]])  # two cells, of two channels
      >>> kernel = jnp.array([[1.0, 0.0], [0.0, 3.0]])
      >>> activation_maps(maps, kernel, jnp.array([[1]])).tolist()
      [[[[0.0, 6.0]]]]
    """
    check_integers(values, "values")
    if np.shape(maps)[-1] != len(kernel) or len(maps) != len(values):
        raise ValueError(
            "maps must be [B, h, w, C], kernel [C, J] and values [B, N]; got "
            f"{np.shape(maps)}, {np.shape(kernel)} and {np.shape(values)}"
        )
    weights = jnp.asarray(kernel).T[jnp.asarray(values)]
    return jnp.einsum("bhwc,bnc->bnhw", jnp.asarray(maps), weights)


def attention_boxes(
    maps: Float[Array | np.ndarray, "*batch h w"], *, threshold: float = 0.2
) -> Int[Array, "*batch 4"]:
    """Returns the box around the largest connected region in which a map is near its maximum.

    A cell belongs to a region if it is above ``threshold`` times the map's maximum. Cells that touch at an
    edge or a corner are connected. Of regions of the same number of cells, the one that comes first, row by
    row, counts. A map without a cell above 0 has the whole map as its box, and so has one with a NaN.

    No gradient flows through the boxes, which are whole numbers.

    Args:
      maps: activation maps, [..., h, w].
      threshold: the fraction of the maximum, in [0, 1).

    Returns:
      The first row, the first column, the row after the last and the column after the last, int32 [..., 4].

    Raises:
      ValueError: a threshold outside [0, 1), or maps without a cell.

    Example:
      >>> attention_boxes(jnp.array([[0.0, 0.1, 1.0], [0.0, 0.0, 0.5], [0.9, 0.0, 0.0]])).tolist()
      [0, 2, 2, 3]
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be at least 0 and below 1, got {threshold}")
    height, width = np.shape(maps)[-2:]
    if not height * width:
        raise ValueError(f"maps must have cells, got {np.shape(maps)}")
    maps = jax.lax.stop_gradient(jnp.asarray(maps))
    above = maps > threshold * maps.max(axis=(-2, -1), keepdims=True)
    above |= ~above.any(axis=(-2, -1), keepdims=True)  # the whole map
    regions = _regions(above)
    flat = regions.reshape(-1, height * width)
    sizes = jnp.zeros((len(flat), height * width), jnp.int32).at[jnp.arange(len(flat))[:, None], flat].add(1)
    inside = regions == sizes.argmax(axis=-1).reshape(*maps.shape[:-2], 1, 1)
    rows, columns = inside.any(axis=-1), inside.any(axis=-2)
    ends = [
        rows.argmax(axis=-1),
        columns.argmax(axis=-1),
        height - rows[..., ::-1].argmax(axis=-1),
        width - columns[..., ::-1].argmax(axis=-1),
    ]
    return jnp.stack(ends, axis=-1).astype(jnp.int32)


def _regions(above: Bool[Array, "*batch h w"]) -> Int[Array, "*batch h w"]:
    """Returns the first cell of each cell's region, in reading order; of other cells, one past the last cell.

    Every cell takes the least of its neighbourhood until none changes, which takes as many rounds as the
    longest way within a region.
    """
    height, width = above.shape[-2:]
    nothing = height * width  # an index that is out of bounds, which ``.at[].add`` leaves out
    first = jnp.where(above, jnp.arange(nothing, dtype=jnp.int32).reshape(height, width), nothing)

    def is_changing(state: tuple[Array, Array]) -> Array:
        return (state[0] != state[1]).any()

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        least = _least_of_three(_least_of_three(state[1], -2, nothing), -1, nothing)
        return state[1], jnp.where(above, least, nothing)

    return jax.lax.while_loop(is_changing, spread, spread((first, first)))[1]


def _least_of_three(cells: Array, axis: int, outside: int) -> Array:
    """Returns the least of each cell and its two neighbours along an axis.

    As slices: on a CPU, XLA's window reductions are slower.
    """
    edges = [(0, 0)] * cells.ndim
    edges[axis] = (1, 1)
    padded = jnp.pad(cells, edges, constant_values=outside)
    length = cells.shape[axis]
    parts = (jax.lax.slice_in_dim(padded, start, start + length, axis=axis) for start in range(3))
    return functools.reduce(jnp.minimum, parts)


def crop_and_resample(
    maps: Float[Array | np.ndarray, "B h w C"], boxes: Int[Array | np.ndarray, "B N 4"], *, size: int
) -> Float[Array, "B N s s C"]:
    """Resamples what a map shows inside boxes to a grid of one size, bilinearly.

    Every cell of the grid covers the same part of the box. Where the box is larger than the grid, a cell is
    a weighted mean: the weights are a triangle around the middle of its part, which ends a whole part away
    on both sides. So all cells of the box count, neighbouring parts overlap, and the outer cells of the grid
    read up to half a part outside of the box: 16 % of all weight for a box of 6 x 6 on a grid of 3, unless
    the map ends there. Otherwise it interpolates between neighbouring cells, which at the edges of the box
    may be outside of it, as in RoIAlign. The gradient flows to the maps, not to the boxes.

    Args:
      maps: [B, h, w, C].
      boxes: N boxes of each map, as ``attention_boxes`` returns them, [B, N, 4].
      size: s, the number of rows, and of columns, of the grid.

    Raises:
      ValueError: a size below 1, boxes that are no integers, or numbers of images that disagree.

    Example:
      >>> maps = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> crops = crop_and_resample(maps, jnp.array([[[0, 0, 4, 4], [1, 2, 2, 3]]]), size=1)
      >>> print(np.asarray(crops).ravel().round(3))
      [7.5 6. ]
    """
    size = whole_number(size, "size")
    check_integers(boxes, "boxes")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if len(maps) != len(boxes):
        raise ValueError(f"maps and boxes must be of as many images, got {len(maps)} and {len(boxes)}")
    maps = jnp.asarray(maps)

    def one_box(image: Array, box: Array) -> Array:
        start, stop = box[:2], box[2:]
        scale = size / (stop - start).astype(jnp.promote_types(maps.dtype, jnp.float32))
        return jax.image.scale_and_translate(
            image, (size, size, image.shape[-1]), (0, 1), scale, -start * scale, method="linear"
        )

    return jax.vmap(jax.vmap(one_box, in_axes=(None, 0)))(maps, jnp.asarray(boxes))
