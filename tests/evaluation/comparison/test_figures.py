import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba

from gradrev_jax.evaluation.comparison.figures import (
    Curve,
    cross_accuracy_heat_maps,
    hit_rate_curves,
    query_grid,
)
from gradrev_jax.evaluation.retrieval_figure import MATCH, RetrievalExample
from tests.evaluation.page_reading import read_page

BAND = "95 % intervals over reference images, and over seeds where a system has several"


def saved(figure):
    """The figure, once it has been drawn for good: some warnings come only then."""
    figure.savefig(io.BytesIO(), dpi=40)
    return figure


def texts(axes):
    return [text.get_text() for text in axes.texts]


def curve(name, family=None, low=(0.1, 0.3)):
    return Curve(name, family or name, (0.2, 0.4), low, (0.3, 0.5), (0.05, 0.1))


def test_curves_have_their_values_and_intervals_and_a_baseline():
    figure = saved(
        hit_rate_curves((1, 10), [curve("a"), curve("b"), curve("a, prototypes alone", "a")], "over x")
    )
    (axes,) = figure.axes
    named = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(named) == ["a", "b", "a, prototypes alone"]
    assert all(line.get_xydata().tolist() == [[1, 0.2], [10, 0.4]] for line in named.values())
    colors = [line.get_color() for line in named.values()]
    assert colors[0] == colors[2] != colors[1]
    assert named["a"].get_linestyle() != named["a, prototypes alone"].get_linestyle()
    baselines = [line for line in axes.lines if line.get_label().startswith("_")]
    assert [line.get_xydata().tolist() for line in baselines] == [[[1, 0.05], [10, 0.1]]] * 2
    assert len(axes.collections) == 3
    vertices = axes.collections[0].get_paths()[0].vertices.tolist()
    assert {tuple(point) for point in vertices} == {(1, 0.1), (1, 0.3), (10, 0.3), (10, 0.5)}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [*named, "no manipulation, by colour", "over x"]


def test_without_an_interval_there_is_no_band():
    figure = saved(hit_rate_curves((1, 10), [curve("a", low=(None, None))], "over x"))
    assert not figure.axes[0].collections
    assert "over x" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_more_systems_than_colours_are_still_told_apart():
    figure = hit_rate_curves((1, 10), [curve(str(number)) for number in range(12)], "over x")
    styles = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[::2]]
    assert len(set(styles)) == 12


@pytest.mark.parametrize(
    ("count", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))]
)
def test_heat_maps_share_a_scale_and_fill_a_grid(count, shape):
    matrices = {f"system {number}": [[0.9, 0.01 * number], [None, 0.5]] for number in range(count)}
    figure = saved(cross_accuracy_heat_maps(matrices, ["color", "$_$"]))
    *maps, bar = figure.axes
    assert len(maps) == shape[0] * shape[1]
    assert bar.get_ylabel() == "accuracy (%)\ngrey: not measured"
    shown = [axes for axes in maps if axes.images]
    assert [axes.get_title() for axes in shown] == list(matrices)
    assert {axes.images[0].get_clim() for axes in shown} == {(0, 100)}
    assert [texts(axes) for axes in shown] == [["90", f"{number}", "50"] for number in range(count)]
    for position, axes in enumerate(shown):
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == (["color", "$_$"] if position % shape[1] == 0 else ["", ""])


def example(rng, matches, wrong):
    count = len(matches)
    return RetrievalExample(
        query_image=np.full((6, 6, 3), 7, np.uint8),
        query_name="a.jpg",
        change="price: $ -> $$",
        neighbor_images=rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8),
        neighbor_names=tuple(f"n{rank}.jpg" for rank in range(count)),
        neighbor_labels=tuple(wrong),
        matches=np.array(matches),
    )


def test_a_query_is_answered_by_a_row_a_system(rng):
    answers = [
        ("ours", example(rng, [True, False], ["", "color: red"])),
        ("a much longer name of a system", example(rng, [False, False], ["size: m", ""])),
    ]
    figure = saved(query_grid(answers))
    (query, *first), second = read_page(figure)
    assert (query.title, query.caption) == ("price: $ -> $$", "a.jpg")
    assert (query.images[0] == 7).all()
    assert [cell.title for cell in first] == ["1", "2"]
    for cells, (_, shown) in zip((first, second), answers, strict=True):
        for cell, image, match in zip(cells, shown.neighbor_images, shown.matches, strict=True):
            np.testing.assert_array_equal(cell.images, [image])
            assert (cell.boxes[0].get_edgecolor() == to_rgba(MATCH)) == match
    assert first[1].caption == "n1.jpg\ncolor: red"
    assert second[0].extent[0] == first[0].extent[0], "the query is shown once, and its column left free"
    for name, cells in zip(("ours", "a much longer name of a system"), (first, second), strict=True):
        (label,) = [text for text in figure.axes[0].texts if text.get_text().replace("\n", " ") == name]
        top, bottom = cells[0].extent[3], cells[0].extent[2]
        assert label.get_position()[1] == pytest.approx((top + bottom) / 2), "beside its row"


def drawn(figure):
    """What a figure takes when it is drawn, and the figure itself, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return figure.get_tightbbox(canvas.get_renderer()).transformed(figure.dpi_scale_trans), figure.bbox


@pytest.mark.parametrize("count", [1, 30])
def test_a_legend_of_many_systems_leaves_the_curves_alone(count):
    names = ["_ours", "红色", *(f"runs/experiments/{'x' * 60}/{number}" for number in range(count))][:count]
    figure = hit_rate_curves((1, 10), [curve(name) for name in names], BAND)
    inner, whole = drawn(figure)
    legend = figure.legends[0].get_window_extent()
    assert not legend.overlaps(figure.axes[0].get_window_extent())
    assert whole.y0 <= legend.y0 <= inner.y1 <= whole.y1 + 1
    assert figure.axes[0].get_window_extent().width > 4 * figure.dpi
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(set(labels)) == count + 2
    assert labels[-1].replace("\n", " ") == BAND
    assert labels[0] == "_ours"


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 26, 63])
def test_heat_maps_of_many_attributes_stay_within_the_picture(count):
    attributes = ["_a", *(f"attribute {number} {'x' * 40}" for number in range(count))][:count]
    systems = [f"runs/experiments/of/last/summer/{number}" for number in range(2)]
    figure = cross_accuracy_heat_maps(dict.fromkeys(systems, [[None] * count] * count), attributes)
    inner, whole = drawn(figure)
    assert inner.x0 >= whole.x0 - 1
    assert inner.x1 <= whole.x1 + 1
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles[0] != titles[1]
    assert all(len(title.splitlines()) <= 3 for title in titles)
    assert len({label.get_text() for label in figure.axes[0].get_yticklabels()}) == count
    assert max(figure.get_size_inches()) < 34


def test_names_of_systems_beside_a_query_take_few_lines(rng):
    answers = [("x" * 300, example(rng, [True], [""])), ("y" * 300, example(rng, [True], [""]))]
    figure = saved(query_grid(answers))
    labels = [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "right"]
    assert [label[0] for label in labels] == ["x", "y"]
    assert all(len(label.splitlines()) <= 5 for label in labels)


def test_pictures_of_nothing_are_errors():
    with pytest.raises(ValueError, match="at least one system"):
        cross_accuracy_heat_maps({}, ["color"])
    with pytest.raises(ValueError, match="at least one system"):
        query_grid([])
