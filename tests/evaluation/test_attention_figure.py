import io

import numpy as np
import pytest

from gradrev_jax.evaluation.attention_figure import MOST_ATTRIBUTES, AttentionExample, attention_grid
from tests.evaluation.page_reading import read_page


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
    return read_page(figure)


def test_a_row_has_the_image_and_a_map_with_its_box_for_each_attribute(rng):
    examples = [example(rng), example(rng)]
    rows = drawn(examples, ["color", "size", "fit"])
    assert [cell.title for cell in rows[0]] == ["", "color", "size", "fit"]
    for row, shown in zip(rows, examples, strict=True):
        assert [cell.caption for cell in row] == ["shirts/a.jpg", *shown.values]
        first, *maps = row
        np.testing.assert_array_equal(first.images, [shown.image])
        assert not first.boxes
        for n, cell in enumerate(maps):
            picture, heat = cell.images
            np.testing.assert_array_equal(picture, shown.image)
            np.testing.assert_array_equal(heat, shown.maps[n])
            (box,) = cell.boxes
            left, right, bottom, top = cell.extent
            down, across = (bottom - top) / 4, (right - left) / 2  # a cell of the map, in inches
            rows_from, columns_from, rows_to, columns_to = shown.boxes[n]
            assert box.get_bbox().extents.tolist() == pytest.approx(
                [
                    *(left + columns_from * across, top + rows_from * down),
                    *(left + columns_to * across, top + rows_to * down),
                ]
            )


def test_a_map_without_a_positive_cell_is_dark(rng):
    dark = example(rng)
    dark.maps[:] = -1
    (page,) = attention_grid([dark], ["a", "b", "c"]).axes
    heats = [image for image in page.images if image.get_array().ndim == 2]
    assert [heat.get_clim() for heat in heats] == [(0, 1)] * 3


def test_of_many_attributes_the_first_are_drawn(rng):
    attributes = MOST_ATTRIBUTES + 2
    (row,) = drawn([example(rng, attributes)], [f"a{n}" for n in range(attributes)])
    assert [cell.title for cell in row] == ["", *(f"a{n}" for n in range(MOST_ATTRIBUTES))]


def test_no_example_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        attention_grid([], ["color"])
