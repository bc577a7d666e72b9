import io

import numpy as np
import pytest

from gradrev_jax.evaluation.leakage_figure import leakage_heat_map


def content(count):
    matrix = [[0.25] * count for _ in range(count)]
    conditional = [[None if j == n else -0.031 for n in range(count)] for j in range(count)]
    names = [f"a{n}" for n in range(count)]
    return {"attributes": names, "matrix": matrix, "conditional_matrix": conditional}


@pytest.mark.parametrize("count", [1, 3])
def test_both_maps_have_their_numbers_and_draw_none_grey(count):
    figure = leakage_heat_map(content(count))
    figure.savefig(io.BytesIO(), dpi=40)
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["25"] * count**2
    assert [text.get_text() for text in right.texts] == ["-3"] * (count**2 - count)
    assert (left.get_xlabel(), left.get_ylabel()) == ("attribute", "read from")
    assert [label.get_text() for label in left.get_yticklabels()] == [f"a{n}" for n in range(count)]


def test_by_colour_alone_0_less_and_what_was_not_measured_differ():
    shown = content(31)
    shown["matrix"][0][:6] = [None, 0.0, -0.01, -0.2, -3.0, -0.26]
    figure = leakage_heat_map(shown)
    figure.savefig(io.BytesIO(), dpi=40)
    left, right, bar = figure.axes
    assert not left.texts
    colors = [image.to_rgba(image.get_array()) for image in (*left.images, *right.images)]
    *different, clipped, barely = (tuple(color) for color in colors[0][0, :6])
    assert len({*different, clipped}) == 5
    assert clipped == barely, "the arrow of the colour bar tells that all below it are alike"
    assert different[0] == tuple(colors[1][5, 5]), "the own label tells nothing beyond itself"
    red, green, blue = different[0][:3]
    assert red == green == blue < 0.8, "grey"
    assert bar.get_ylabel() == "leakage (%)\ngrey: not measured"


def test_where_all_is_measured_no_grey_is_explained():
    shown = content(2)
    shown["conditional_matrix"] = [[-0.1, 0.0], [0.0, 0.1]]
    figure = leakage_heat_map(shown)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), 25)
    assert figure.axes[2].get_ylabel() == "leakage (%)"
