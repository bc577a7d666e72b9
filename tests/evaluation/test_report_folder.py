import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gradrev_jax.evaluation.figures import cross_accuracy_heat_map, hit_rate_curve
from gradrev_jax.evaluation.report_folder import DPI, write_figure

FIGURES = {
    "constrained": lambda: hit_rate_curve({"1": 0.1, "5": 0.3}, {"1": 0.2, "5": 0.2}),
    "compressed, with a bar": lambda: cross_accuracy_heat_map([[0.9, 0.5], [0.4, None]], ["color", "size"]),
    "without a layout": Figure,
}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_is_drawn_once_and_as_matplotlib_would(tmp_path, monkeypatch, kind):
    FIGURES[kind]().savefig(tmp_path / "theirs.png", dpi=DPI)
    drawn = []
    draw = Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: drawn.append(draw(self, renderer)))
    write_figure(tmp_path / "ours.png", FIGURES[kind]())
    assert len(drawn) == 1
    np.testing.assert_array_equal(pixels(tmp_path / "ours.png"), pixels(tmp_path / "theirs.png"))
