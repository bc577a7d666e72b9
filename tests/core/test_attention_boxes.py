import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attention_boxes import activation_maps, attention_boxes, crop_and_resample
from tests.slow_fsn import box_by_flooding, crop_by_loops, maps_by_loops

activations = jax.jit(activation_maps)
crops = jax.jit(crop_and_resample, static_argnames="size")


@functools.partial(jax.jit, static_argnames="threshold")
def boxes(maps, threshold=0.2):
    return attention_boxes(maps, threshold=threshold)


def test_activation_maps_against_loops(rng):
    maps, kernel = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(6, 7))
    values = rng.integers(0, 7, (3, 2))
    found = activations(maps.astype(np.float32), kernel.astype(np.float32), values)
    np.testing.assert_allclose(found, maps_by_loops(maps, kernel, values), atol=1e-5)


def test_the_mean_of_an_activation_map_is_the_logit_of_its_value(rng):
    maps, kernel = rng.normal(size=(2, 3, 3, 5)), rng.normal(size=(5, 4))
    found = np.asarray(activations(maps, kernel, np.array([[2], [0]])))
    logits = maps.mean(axis=(1, 2)) @ kernel
    np.testing.assert_allclose(found.mean(axis=(2, 3))[:, 0], [logits[0, 2], logits[1, 0]], rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.6])
def test_boxes_against_a_flood_of_every_region(rng, threshold):
    coarse = rng.normal(size=(60, 9, 7))
    smooth = coarse.copy()  # larger regions, of winding shapes
    smooth[:, 1:] += coarse[:, :-1]
    smooth[:, :, 1:] += coarse[:, :, :-1]
    for maps in (coarse, smooth):
        found = boxes(maps.reshape(6, 10, 9, 7).astype(np.float32), threshold)
        expected = [box_by_flooding(grid.astype(np.float32), threshold) for grid in maps]
        np.testing.assert_array_equal(np.asarray(found).reshape(-1, 4), expected)


def test_a_region_that_winds_through_the_whole_map_is_one():
    spiral = np.array([list(map(int, row)) for row in "11111 00001 11101 10001 11111".split()], float)
    assert boxes(spiral).tolist() == [0, 0, 5, 5]
    spiral[4, 4], spiral[3, 4] = 0, 0  # two regions, of 8 cells both, of which the first counts
    assert boxes(spiral).tolist() == box_by_flooding(spiral, 0.2)


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (np.zeros((3, 4)), [0, 0, 3, 4]),
        (np.full((3, 4), 2.0), [0, 0, 3, 4]),
        (np.full((3, 4), -2.0), [0, 0, 3, 4]),
        (-np.eye(3), [0, 0, 3, 3]),
        (np.full((3, 4), np.nan), [0, 0, 3, 4]),
        (np.where(np.eye(3), np.inf, 0), [0, 0, 3, 3]),
        (np.ones((1, 1)), [0, 0, 1, 1]),
        (np.eye(3), [0, 0, 3, 3]),  # cells that touch at a corner
    ],
    ids="zeros flat negative no_positive nan infinite one_cell diagonal".split(),
)
def test_boxes_of_unusual_maps(grid, expected):
    assert boxes(grid).tolist() == expected


@pytest.mark.parametrize("cell", [(0, 0), (0, 3), (2, 3), (1, 2)])
def test_a_single_peak_has_a_box_of_one_cell_at_the_border_too(cell):
    grid = np.zeros((3, 4))
    grid[cell] = 5
    assert boxes(grid).tolist() == [*cell, cell[0] + 1, cell[1] + 1]


def test_of_equal_regions_the_first_counts_and_a_larger_one_beats_the_peak():
    grid = np.zeros((3, 5))
    grid[0, 4] = grid[2, 0] = 1
    assert boxes(grid).tolist() == [0, 4, 1, 5]
    grid[2, 1] = 0.3
    assert boxes(grid).tolist() == [2, 0, 3, 2]
    assert boxes(grid, 0.3).tolist() == [0, 4, 1, 5]  # above the threshold, not at it


def test_no_gradient_flows_through_boxes():
    def loss(maps):
        return crop_and_resample(jnp.ones((1, 4, 4, 1)), attention_boxes(maps), size=2).sum()

    assert not jax.jit(jax.grad(loss))(jnp.arange(16.0).reshape(1, 1, 4, 4)).any()


BOXES = [[0, 0, 6, 5], [0, 0, 1, 1], [5, 4, 6, 5], [1, 2, 5, 3], [2, 0, 3, 5]]


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_crops_against_loops(rng, size):
    maps = rng.normal(size=(2, 6, 5, 3))
    found = crops(maps.astype(np.float32), np.array([BOXES, BOXES[::-1]]), size=size)
    for image, of_image, resampled in zip(maps, (BOXES, BOXES[::-1]), found, strict=True):
        for box, crop in zip(of_image, resampled, strict=True):
            np.testing.assert_allclose(crop, crop_by_loops(image, box, size), atol=1e-5)


def test_a_box_of_the_size_of_the_grid_is_copied(rng):
    maps = rng.normal(size=(1, 5, 5, 2)).astype(np.float32)
    found = crops(maps, np.array([[[1, 2, 4, 5]]]), size=3)
    np.testing.assert_allclose(found[0, 0], maps[0, 1:4, 2:5], atol=1e-6)


def test_the_gradient_of_a_crop_against_finite_differences(rng):
    maps = rng.normal(size=(1, 4, 3, 2))
    box, weights = np.array([[[1, 0, 4, 2]]]), rng.normal(size=(1, 1, 2, 2, 2))

    def loss(maps):
        return np.sum(weights[0, 0] * crop_by_loops(maps[0], box[0, 0], 2))

    gradient = jax.jit(jax.grad(lambda maps: (weights * crop_and_resample(maps, box, size=2)).sum()))(maps)
    step = 1e-4
    for cell in np.ndindex(maps.shape):
        nudge = np.zeros_like(maps)
        nudge[cell] = step
        slope = (loss(maps + nudge) - loss(maps - nudge)) / (2 * step)
        np.testing.assert_allclose(gradient[cell], slope, atol=1e-4)


@pytest.mark.parametrize(("side", "share"), [(6, 0.1597), (5, 0.1597), (3, 0.0)])
def test_outer_cells_read_half_a_cell_of_the_grid_around_a_larger_box(side, share):
    outside = np.ones((1, 13, 13, 1), np.float32)
    outside[:, 3 : 3 + side, 3 : 3 + side] = 0
    found = crops(outside, np.array([[[3, 3, 3 + side, 3 + side]]]), size=3)[0, 0, ..., 0]
    assert float(found.mean()) == pytest.approx(share, abs=1e-4)
    assert found[1, 1] == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: attention_boxes(jnp.ones((2, 2)), threshold=1.0),
            "threshold must be at least 0 and below 1",
        ),
        (lambda: attention_boxes(jnp.ones((2, 2)), threshold=-0.1), "threshold .* got -0.1"),
        (lambda: attention_boxes(jnp.ones((1, 0, 2))), r"maps must have cells, got \(1, 0, 2\)"),
        (lambda: crop_and_resample(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 4), int), size=0), "at least 1"),
        (lambda: crop_and_resample(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 4)), size=1), "boxes must be of"),
        (
            lambda: crop_and_resample(jnp.ones((1, 2, 2, 1)), jnp.ones((2, 1, 4), int), size=1),
            "as many images, got 1 and 2",
        ),
        (
            lambda: activation_maps(jnp.ones((1, 2, 2, 3)), jnp.ones((4, 2)), jnp.ones((1, 1), int)),
            r"kernel \[C, J\] .* got \(1, 2, 2, 3\), \(4, 2\)",
        ),
        (
            lambda: activation_maps(jnp.ones((1, 2, 2, 3)), jnp.ones((3, 2)), jnp.ones((1, 1))),
            "values must be of an integer dtype",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
