import io

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from gradrev_jax.evaluation.attention_figure import MOST_ATTRIBUTES, AttentionExample, attention_grid


def example(rng, attributes=3):
    return AttentionExample(
        image=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        name="shirts/a.jpg",
        values=tuple(f"value {n}" for n in range(attributes)),
        maps=rng.normal(size=(attributes, 4, 2)),
        boxes=np.array([[0, 0, 4, 2], [1, 1, 2, 2], [3, 0, 4, 1]] * attributes)[:attributes],
    )


def drawn(examples, attributes):
    figure = attention_grid(examples, attributes)
    figure.savefig(io.BytesIO(), dpi=40)  # some warnings come only then
    return np.array(figure.axes, object).reshape(len(examples), -1)


def test_a_row_has_the_image_and_a_map_with_its_box_for_each_attribute(rng):
    examples = [example(rng), example(rng)]
    grid = drawn(examples, ["color", "size", "fit"])
    assert grid.shape == (2, 4)
    assert [axes.get_title() for axes in grid[0]] == ["", "color", "size", "fit"]
    for row, shown in zip(grid, examples, strict=True):
        assert [axes.texts[0].get_text() for axes in row] == ["shirts/a.jpg", *shown.values]
        assert not row[0].patches
        for n, axes in enumerate(row[1:]):
            picture, heat = (image.get_array() for image in axes.images)
            np.testing.assert_array_equal(picture, shown.image)
            np.testing.assert_array_equal(heat, shown.maps[n])
            (box,) = axes.patches
            assert isinstance(box, Rectangle)
            top, left, bottom, right = shown.boxes[n]
            # A cell of the map is two pixels high and four wide; the first pixel begins at -0.5.
            assert box.get_xy() == (4 * left - 0.5, 2 * top - 0.5)
            assert (box.get_width(), box.get_height()) == (4 * (right - left), 2 * (bottom - top))
            assert axes.get_xlim() == (-0.5, 7.5)
            assert axes.get_ylim() == (7.5, -0.5)


def test_a_map_without_a_positive_cell_is_dark(rng):
    dark = example(rng)
    dark.maps[:] = -1
    for axes in drawn([dark], ["a", "b", "c"])[0, 1:]:
        assert axes.images[1].get_clim() == (0, 1)


def test_of_many_attributes_the_first_are_drawn(rng):
    attributes = MOST_ATTRIBUTES + 2
    grid = drawn([example(rng, attributes)], [f"a{n}" for n in range(attributes)])
    assert grid.shape == (1, 1 + MOST_ATTRIBUTES)


def test_no_example_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        attention_grid([], ["color"])
