"""Measures the exact colour, the size and the pose of drawn garments, which no attribute names."""

import colorsys
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from gradrev_jax.data.formats.garments.drawing import COLORS, Canvas, Fabric

GREYS = ("black", "white")  # have no hue
SYMMETRIC = ("checked", "dotted")  # look the same when they are turned by a right angle
# The names of the nuisances, and the period of each.
PERIODS = {
    "hue": 1.0,
    "shade": math.inf,
    "width": math.inf,
    "height": math.inf,
    "x": math.inf,
    "y": math.inf,
    "tilt": math.inf,
    "pattern angle": math.pi,
    "pattern period": math.inf,
}


def garment_nuisances(garment: Mapping[str, str], rng: np.random.Generator) -> Float[np.ndarray, " L"]:
    """Returns the numbers that ``draw_garment`` draws from the same generator, in the order of ``PERIODS``.

    Hue and shade are counted from those of the colour that the garment is named by, so that its name says
    nothing of them. A hue is a fraction of the whole circle, a shade one of the whole range of brightness.

    Args:
      garment: the values of the attributes, as ``draw_garment`` takes them.
      rng: the random numbers that it would take.

    Returns:
      The nuisances, [L]; NaN for the hue of a grey garment, and for the pattern of a plain one.

    Example:
      >>> skirt = {"category": "skirt", "color": "red", "pattern": "plain", "length": "short"}
      >>> nuisances = garment_nuisances(skirt, np.random.default_rng(0))
      >>> dict(zip(PERIODS, nuisances.round(3).tolist()))["width"]
      0.975
    """
    canvas, fabric = Canvas.random(1, rng), Fabric.random(garment["color"], rng)
    color, pattern = garment["color"], garment["pattern"]
    hue = (_hue(fabric.base) - _hue(np.asarray(COLORS[color])) + 0.5) % 1 - 0.5
    shade = (fabric.base.mean() - np.mean(COLORS[color])) / 255
    turned = fabric.is_turned and pattern not in SYMMETRIC
    of_pattern = [fabric.angle + (math.pi / 2) * turned, fabric.period]
    return np.array(
        [
            math.nan if color in GREYS else hue,
            shade,
            *canvas.scale,
            *canvas.shift,
            canvas.tilt,
            *([math.nan, math.nan] if pattern == "plain" else of_pattern),
        ]
    )


def _hue(color: np.ndarray) -> float:
    """Returns the hue of a colour as it is seen, as a fraction of the circle."""
    red, green, blue = (np.clip(color, 0, 255) / 255).tolist()
    return colorsys.rgb_to_hsv(red, green, blue)[0]
