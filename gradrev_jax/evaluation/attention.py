"""Chooses the images in which a report shows where the model looks for each attribute."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, UInt8

from gradrev_jax.data.catalogue import TEST
from gradrev_jax.evaluation.attention_figure import AttentionExample
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.models.regions import Localizes

SHOWN_IMAGES = 6


def attention_examples(run: OpenedRun, name_of: Callable[[int], str]) -> list[AttentionExample]:
    """Returns a seeded choice of test images, with the regions that a run's model reads each attribute from.

    Args:
      run: the run.
      name_of: a function from a gallery row to the name of its image.

    Returns:
      An example per image; none where the model does not tell where it looks.
    """
    encoder, inputs = run.encoder, run.inputs[TEST]
    if not isinstance(encoder, Localizes):
        return []
    rows = np.sort(np.random.default_rng(run.seed).permutation(len(inputs))[:SHOWN_IMAGES])

    def regions(params: Any, images: UInt8[Array | np.ndarray, "B S S 3"]) -> Any:
        return encoder.apply(params, encoder.inputs.normalize(images), method="regions")

    seen = jax.tree.map(np.asarray, jax.jit(regions)(run.params, inputs[rows]))
    return [
        AttentionExample(
            image=np.asarray(run.pictures[row]),
            name=name_of(row),
            values=encoder.classes.words(labels),
            maps=maps,
            boxes=boxes,
        )
        for row, labels, maps, boxes in zip(rows.tolist(), seen.predicted, seen.maps, seen.boxes, strict=True)
    ]
