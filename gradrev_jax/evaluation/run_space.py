"""Chooses how the images of a run are represented, compared and edited."""

from typing import NamedTuple

from gradrev_jax.core.representations import REPRESENTATIONS, represent_material
from gradrev_jax.core.spaces import Fitted, Material, Space
from gradrev_jax.errors import naming
from gradrev_jax.evaluation.choices import Choices, make_choices
from gradrev_jax.evaluation.encoding import EncodedRun
from gradrev_jax.evaluation.look import Look, choose_look
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.runs.encoder_faults import blaming_encoder


class RunSpace(NamedTuple):
    """Represents the images of a run as a search compares them.

    Attributes:
      look: how much of their look is compared.
      material: the encoded images, with this look.
      fitted: what the representation keeps of them.
      space: the images and the prototypes.
      choices: how they are compared and edited.
    """

    look: Look
    material: Material
    fitted: Fitted
    space: Space
    choices: Choices


def choose_space(run: OpenedRun, encoded: EncodedRun, *, progress: bool) -> RunSpace:
    """Fits the representation of a run, and makes all choices that are left to the validation part.

    Args:
      run: the run.
      encoded: its encoded images.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by, or the images cannot be compared.
    """
    with naming("train.{}"), blaming_encoder():
        look = choose_look(run, encoded.material, progress=progress)
        material = encoded.material._replace(look=look.value or 0.0)
        representation = REPRESENTATIONS[run.protocol.representation]
        fitted = representation.fit(material)
        space = represent_material(material, fitted, representation.represent)
        return RunSpace(look, material, fitted, space, make_choices(run, space, progress=progress))
