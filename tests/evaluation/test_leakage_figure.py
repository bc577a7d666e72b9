import io

import pytest

from gradrev_jax.evaluation.leakage_figure import leakage_heat_map


def content(count):
    matrix = [[0.25] * count for _ in range(count)]
    conditional = [[None if j == n else -0.031 for n in range(count)] for j in range(count)]
    names = [f"a{n}" for n in range(count)]
    return {"attributes": names, "matrix": matrix, "conditional_matrix": conditional}


@pytest.mark.parametrize("count", [1, 3])
def test_both_maps_have_their_numbers_and_leave_none_blank(count):
    figure = leakage_heat_map(content(count))
    figure.savefig(io.BytesIO(), dpi=40)
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["25"] * count**2
    assert [text.get_text() for text in right.texts] == ["-3"] * (count**2 - count)
    assert (left.get_xlabel(), left.get_ylabel()) == ("attribute", "read from")
    assert [label.get_text() for label in left.get_yticklabels()] == [f"a{n}" for n in range(count)]
