"""Chooses how much of an image's look is compared, besides what its labels say."""

from typing import NamedTuple

import numpy as np

from gradrev_jax.core.representations import REPRESENTATIONS, represent_material
from gradrev_jax.core.spaces import Material
from gradrev_jax.evaluation.choices import choose_strength, make_choices, make_held_out
from gradrev_jax.evaluation.opening import OpenedRun

LOOKS = tuple(i / 10 for i in range(11))


class Look(NamedTuple):
    """Represents the weight of the backbone's embedding.

    Attributes:
      value: the weight; None: the representation has no embedding.
      hit_rates: the hit rate on the validation part at every weight tried, by its name; empty if none was.
    """

    value: float | None
    hit_rates: dict[str, float]


def choose_look(run: OpenedRun, material: Material, *, progress: bool) -> Look:
    """Returns the weight that the protocol gives, or else the most that costs no match.

    Of 0, 0.1, ..., 1 it is the highest at which as many queries of the validation part find a match among the
    first 10 as without any, at the way of searching that serves best without any.

    Args:
      run: the run.
      material: the encoded images.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by.
    """
    representation = REPRESENTATIONS[run.protocol.representation]
    if not representation.has_look:
        return Look(None, {})
    if run.protocol.look is not None:
        return Look(run.protocol.look, {})
    fitted = representation.fit(material._replace(look=0.0))
    space = represent_material(material, fitted, representation.represent)
    held_out = make_held_out(run, space, "look")
    way = make_choices(run, space, progress=progress).way
    hit_rates = {}
    for look in LOOKS:
        looked = fitted._replace(arrays={**fitted.arrays, "look": np.asarray(look, np.float32)})
        images = representation.represent(material.held_out, looked, material.schema, material.missing)
        of_look = held_out._replace(images=images)
        found = choose_strength(of_look, way, candidates=(way.strength,), progress=progress)
        hit_rates[f"{look:g}"] = found.hit_rate
    most = max(look for look in LOOKS if hit_rates[f"{look:g}"] >= hit_rates["0"])
    return Look(most, hit_rates)
