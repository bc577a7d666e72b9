import dataclasses
import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba

from gradrev_jax.evaluation.retrieval_figure import MATCH, NO_MATCH, RetrievalExample, retrieval_grid
from tests.evaluation.page_reading import read_page


def drawn(examples):
    """The rows of a page, once it has been drawn for good: some warnings come only then."""
    figure = retrieval_grid(examples)
    figure.savefig(io.BytesIO(), dpi=40)
    return read_page(figure)


def example(rng, matches, wrong=()):
    count = len(matches)
    return RetrievalExample(
        query_image=rng.integers(0, 256, (6, 6, 3), dtype=np.uint8),
        query_name="shirts/a.jpg",
        change="color: red -> blue",
        neighbor_images=rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8),
        neighbor_names=tuple(f"n{rank}.jpg" for rank in range(count)),
        neighbor_labels=tuple(wrong or [""] * count),
        matches=np.array(matches),
    )


def test_a_row_is_an_example_and_shows_its_query_and_neighbours_in_order(rng):
    examples = [example(rng, [True, False, True]), example(rng, [False])]
    rows = drawn(examples)
    assert [len(row) for row in rows] == [4, 2]
    for row, shown in zip(rows, examples, strict=True):
        expected = [shown.query_image, *shown.neighbor_images]
        for cell, image in zip(row, expected, strict=True):
            np.testing.assert_array_equal(cell.images, [image])
    lefts = [cell.extent[0] for cell in rows[0]]
    assert [cell.extent[0] for cell in rows[1]] == lefts[:2], "columns stand below each other"


def test_matches_and_only_matches_are_framed_in_green(rng):
    matches = [True, False, False, True]
    ((query, *neighbors),) = drawn([example(rng, matches)])
    for cell, match in zip(neighbors, matches, strict=True):
        (frame,) = cell.boxes
        left, right, bottom, top = cell.extent
        assert frame.get_bbox().extents.tolist() == pytest.approx([left, top, right, bottom])
        assert frame.get_edgecolor() == to_rgba(MATCH if match else NO_MATCH)
    assert not query.boxes


def test_a_grid_says_what_is_asked_for_and_what_is_wrong(rng):
    rows = drawn([example(rng, [True, False], ["", "color: red"])] * 2)
    assert [cell.title for cell in rows[0]] == ["color: red -> blue", "1", "2"]
    assert [cell.title for cell in rows[1]] == ["color: red -> blue", "", ""]
    for row in rows:
        assert [cell.caption for cell in row] == ["shirts/a.jpg", "n0.jpg", "n1.jpg\ncolor: red"]


def test_columns_are_numbered_as_far_as_the_longest_row_reaches(rng):
    page = retrieval_grid([example(rng, [True]), example(rng, [True, False])]).axes[0]
    assert {"1", "2"} <= {text.get_text() for text in page.texts}


def test_long_names_are_shortened(rng):
    ((_, neighbor),) = drawn([example(rng, [False], ["color: red, " * 30])])
    assert all(len(line) <= 26 for line in neighbor.caption.splitlines())


def test_a_grid_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one example"):
        retrieval_grid([])


def test_a_dollar_is_no_formula(rng):
    drawn([dataclasses.replace(example(rng, [True]), change="price: $ -> $$$", query_name="img_$1_$.jpg")])


def test_a_caption_shows_the_end_of_a_path_and_a_title_has_few_lines(rng):
    shown = dataclasses.replace(
        example(rng, [False], ["color: " + "red" * 100]),
        query_name="catalogue/2024/spring/shirts/0017.jpg",
        neighbor_names=("catalogue/2024/spring/shirts/0018.jpg",),
        change=f"color: {'red ' * 80}-> {'blue' * 80}",
    )
    ((query, neighbor),) = drawn([shown])
    assert query.caption == ".../spring/shirts/0017.jpg"
    name, *wrong = neighbor.caption.splitlines()
    assert name == ".../spring/shirts/0018.jpg"
    assert all(len(line) <= 26 for line in wrong)
    assert len(wrong) <= 2
    assert len(query.title.splitlines()) <= 6


@pytest.mark.parametrize("change", ["color: red -> blue", "[U+0E2A U+0E35]: WIDE -> LETTERS, " * 9])
def test_texts_of_a_grid_lie_within_the_page_and_beside_its_pictures(rng, change):
    shown = dataclasses.replace(example(rng, [True, False], ["", "COLOR: RED, " * 9]), change=change)
    figure = retrieval_grid([shown] * 3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (page,) = figure.axes
    texts = [text.get_window_extent(canvas.get_renderer()) for text in page.texts]
    pictures = [image.get_window_extent() for image in page.images]
    for number, text in enumerate(texts):
        assert figure.bbox.x0 <= text.x0
        assert text.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= text.y0
        assert text.y1 <= figure.bbox.y1
        assert not any(text.overlaps(other) for other in [*pictures, *texts[:number]])
    assert all(picture.width == pytest.approx(1.65 * figure.dpi) for picture in pictures)
