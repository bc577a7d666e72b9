import io
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.legend import Legend

from gradrev_jax.evaluation.figures import (
    cross_accuracy_heat_map,
    hit_rate_curve,
)
from gradrev_jax.evaluation.training_figure import training_curves


def saved(figure):
    """The figure, once it has been drawn for good: some warnings come only then."""
    figure.savefig(io.BytesIO(), dpi=40)
    return figure


def texts(axes):
    return [text.get_text() for text in axes.texts]


def curves(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_a_heat_map_writes_each_accuracy_in_its_cell_and_draws_none_grey():
    figure = saved(cross_accuracy_heat_map([[0.914, None], [0.0, 1.0]], ["color", "size"]))
    axes, bar = figure.axes
    written = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "91", (0, 1): "0", (1, 1): "100"}, "x is the column, the classifier"
    np.testing.assert_allclose(axes.images[0].get_array().filled(-1), [[91.4, -1], [0, 100]])
    assert axes.images[0].get_clim() == (0, 100)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["color", "size"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("classifier", "feature")
    assert bar.get_ylabel() == "accuracy (%)\ngrey: not measured"


def test_by_colour_alone_an_accuracy_of_0_differs_from_none():
    matrix = [[1.0] * 31] * 30
    image = saved(cross_accuracy_heat_map([*matrix, [0.0, None, *([1.0] * 29)]], named(31))).axes[0].images[0]
    zero, none = image.to_rgba(image.get_array())[30, :2]
    assert none[3] == 1, "no white shines through"
    assert np.abs(none - zero).max() > 0.2
    whole = saved(cross_accuracy_heat_map([[1.0] * 31] * 31, named(31)))
    assert whole.axes[1].get_ylabel() == "accuracy (%)"


def test_a_heat_map_of_one_attribute():
    assert texts(saved(cross_accuracy_heat_map([[0.5]], ["color"])).axes[0]) == ["50"]
    assert texts(saved(cross_accuracy_heat_map([[-0.004]], ["color"])).axes[0]) == ["0"], "not -0"


def test_a_hit_rate_curve_holds_the_result_and_the_baseline():
    figure = saved(hit_rate_curve({"1": 0.25, "10": 0.5, "50": 1.0}, {"1": 0.0, "10": 0.125, "50": 0.25}))
    (axes,) = figure.axes
    assert curves(axes) == {
        "with manipulation": [[1, 0.25], [10, 0.5], [50, 1.0]],
        "no manipulation": [[1, 0.0], [10, 0.125], [50, 0.25]],
    }
    assert axes.get_ylim()[0] == 0
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["with manipulation", "no manipulation"]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()


def losses(step, w_rev=0.1, loss_rev=3.0):
    return {"step": step, "loss_cls": 10.0 / step, "loss_rev": loss_rev, "w_rev": w_rev}


def validation(step, **accuracy):
    return {"step": step, "validation_accuracy": {"macro": 0.5, "micro": 0.4, "per_attribute": accuracy}}


def test_training_curves_show_every_record_that_has_the_quantity():
    history = [losses(2), validation(2, color=0.25, size=0.75), losses(4, w_rev=0.2), validation(4, size=1.0)]
    cls, rev, weight, accuracy = saved(training_curves(history)).axes
    for axes, expected in (
        (cls, [[2, 5.0], [4, 2.5]]),
        (rev, [[2, 3.0], [4, 3.0]]),
        (weight, [[2, 0.1], [4, 0.2]]),
    ):
        assert [line.get_xydata().tolist() for line in axes.lines] == [expected]
    assert curves(accuracy) == {
        "color": [[2, 0.25]],
        "size": [[2, 0.75], [4, 1.0]],
        "macro": [[2, 0.5], [4, 0.5]],
    }
    labels = [axes.get_ylabel() for axes in (cls, rev, weight, accuracy)]
    assert labels == ["L_cls (Eq. 1)", "L_rev (Eq. 2)", "w_rev (Eq. 5)", "validation accuracy"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("values", "scale"), [([0.0, 0.0], "linear"), ([0.0, 0.1], "log"), ([0.1, 0.2], "log"), ([], "linear")]
)
def test_a_logarithm_is_taken_only_where_something_is_positive(values, scale):
    history = [losses(step, w_rev=value, loss_rev=value) for step, value in enumerate(values, start=1)]
    cls, rev, weight, _ = saved(training_curves(history)).axes
    assert cls.get_yscale() == "linear"
    assert rev.get_yscale() == weight.get_yscale() == scale


def test_the_steps_of_a_second_stage_follow_those_of_the_first():
    first = [{"stage": "encoder", **losses(step)} for step in (2, 4)]
    second = [{"stage": "memory", "step": step, "loss_cls": 1.0} for step in (2, 3)]
    history = [*first, {"stage": "encoder", **validation(4, size=0.5)}, *second]
    cls, rev, _, accuracy = saved(training_curves([*history, {"stage": "memory", **validation(3)}])).axes
    curve, mark = cls.lines
    assert curve.get_xydata().tolist() == [[2, 5.0], [4, 2.5], [6, 1.0], [7, 1.0]]
    assert mark.get_xdata() == rev.lines[1].get_xdata() == [4, 4]
    assert curves(accuracy)["macro"] == [[4, 0.5], [7, 0.5]]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["size", "macro"]


def test_a_system_without_reversal_shows_the_terms_that_its_loss_has():
    terms = {"loss_cls": 1.0, "loss_label_triplet": 0.5, "loss_margin": 0.3, "loss_consistency": 0.2}
    figure = saved(training_curves([{"step": step, "loss": 2.0, "rate": 0.1, **terms} for step in (1, 2)]))
    *panels, _ = figure.axes
    labels = [axes.get_ylabel() for axes in panels]
    assert labels == ["L_cls (Eq. 1)", "label triplet", "margin", "consistency"]
    assert panels[2].lines[0].get_xydata().tolist() == [[1, 0.3], [2, 0.3]]
    whole, axes, _, drawn = boxes(figure)
    assert within(drawn, whole)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(axes, 2))


def test_a_run_without_validation_has_no_attribute_curves():
    assert curves(saved(training_curves([losses(2)])).axes[-1]) == {"macro": []}


def test_a_dollar_is_no_formula():
    saved(cross_accuracy_heat_map([[0.5]], ["$_$"]))
    history = [{"step": 1, "validation_accuracy": {"macro": 0.5, "per_attribute": {"$_$": 0.5}}}]
    saved(training_curves(history))


AWKWARD = ("_season", "", "$_$", "a\nb", "x" * 300, "红色的长裙", "size [EU]")


def named(count):
    """Attribute names, awkward and long ones among them."""
    return [AWKWARD[n] if n < len(AWKWARD) and count > 1 else f"attribute {n}" for n in range(count)]


def boxes(figure):
    """The figure once drawn, its axes and its legends, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    axes = [axes.get_window_extent(renderer) for axes in figure.axes]
    legends = [legend.get_window_extent(renderer) for legend in figure.findobj(Legend)]
    return figure.bbox, axes, legends, figure.get_tightbbox(renderer).transformed(figure.dpi_scale_trans)


def within(inner, outer):
    return all(
        (
            *(inner.x0 >= outer.x0 - 1, inner.x1 <= outer.x1 + 1),
            *(inner.y0 >= outer.y0 - 1, inner.y1 <= outer.y1 + 1),
        )
    )


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 5, 26, 100])
def test_a_legend_of_many_attributes_leaves_the_curves_alone(count):
    names = named(count)
    history = [losses(2), *(validation(step, **dict.fromkeys(names, 0.5)) for step in (2, 4))]
    figure = training_curves(history)
    whole, axes, (legend,), drawn = boxes(figure)
    assert not any(legend.overlaps(each) for each in axes)
    assert within(drawn, whole)
    assert axes[-1].width > 6 * figure.dpi
    assert axes[-1].height > 1.8 * figure.dpi
    texts = [text.get_text() for text in figure.findobj(Legend)[0].get_texts()]
    assert len(texts) == len(set(texts)) == count + 1, "'_season' and '' are in the legend too"
    looks = {(to_rgba(line.get_color()), str(line._dash_pattern)) for line in figure.axes[-1].lines[:-1]}
    assert len(looks) == count
    assert max(figure.get_size_inches()) < 16


@pytest.mark.parametrize(("count", "written"), [(1, True), (5, True), (26, True), (63, False)])
def test_a_heat_map_of_many_attributes_has_numbers_only_where_they_can_be_read(count, written):
    figure = cross_accuracy_heat_map([[1.0] * count] * count, named(count))
    whole, (axes, _), _, drawn = boxes(figure)
    assert within(drawn, whole)
    renderer = figure.canvas.get_renderer()
    cells = figure.axes[0].texts
    assert len(cells) == (count**2 if written else 0)
    cell = axes.width / count
    assert all(text.get_window_extent(renderer).width < cell for text in cells[:3])
    ticks = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(ticks))
    assert max(figure.get_size_inches()) < 20


def test_powers_of_ten_are_formulas_beside_names_that_are_none():
    history = [losses(step, w_rev=10.0**-step, loss_rev=2 + step / 10) for step in range(1, 8)]
    figure = training_curves([*history, validation(2, **{"$_$": 0.5})])
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes[1:3]:
        labels = [*axes.yaxis.get_ticklabels(), *axes.yaxis.get_ticklabels(minor=True)]
        assert all(label.get_parse_math() for label in labels)


def test_the_curve_of_a_single_record_is_a_dot():
    record = {"step": 5, "loss_cls": 1.0, "loss_rev": 0.5, "w_rev": 2.0}
    accuracy = {"macro": 0.5, "micro": 0.5, "per_attribute": {"color": 0.5}}
    for axes in saved(training_curves([record | {"validation_accuracy": accuracy}])).axes:
        assert all(line.get_marker() == "o" for line in axes.lines)
    for axes in saved(training_curves([record, record | {"step": 6}])).axes[:3]:
        assert all(line.get_marker() == "" for line in axes.lines)
