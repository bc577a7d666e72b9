"""Measures the leakage of what a run compares of each attribute, beside that of what bounds it."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.representations import make_space
from gradrev_jax.core.spaces import Material, Space
from gradrev_jax.evaluation.background import RaiseIfCancelled
from gradrev_jax.evaluation.leakage import measure_leakage
from gradrev_jax.runs.kept_results import kept_result

SEED, FOLDS = 0, 5


def leakage_of_run(
    material: Material,
    space: Space,
    *,
    cache: pathlib.Path | None = None,
    progress: bool,
    raise_if_cancelled: RaiseIfCancelled = lambda: None,
) -> dict[str, Any] | None:
    """Measures what each attribute's block tells of the other attributes.

    Three controls are measured by the linear probe alone: ``posterior``, the class probabilities of the run's
    own classifiers; ``random_projection``, the backbone's output projected at random for each attribute, to
    the width of a feature; and ``backbone``, as many principal components of that output.

    Args:
      material: the encoded images.
      space: the images as they are compared.
      cache: the folder where measurements are kept, see ``kept_result``; None: nowhere.
      progress: whether progress bars are shown.
      raise_if_cancelled: the function that is called before each measurement, and may raise to end the rest.

    Returns:
      The entry of metrics.json; None if there are too few images to measure anything.
    """
    schema, gallery, held_out = material.schema, material.gallery, material.held_out
    if len(gallery.labels) < FOLDS:
        return None

    def measure(of_gallery: Array | np.ndarray, of_held_out: Array | np.ndarray, **options: Any) -> Any:
        raise_if_cancelled()
        inputs = np.asarray(of_gallery), gallery.labels
        options["extra"] = (np.asarray(of_held_out), held_out.labels) if len(held_out.labels) else None
        return _measure_once(inputs, schema, {**options, "folds": FOLDS}, cache=cache, progress=progress)

    # The first blocks of a representation belong to the attributes in order; those of the encoder's features
    # may be arranged otherwise.
    are_features = space.gallery.shape[1:] == np.shape(gallery.features)[1:]
    blocks = material.blocks if are_features and material.blocks else FeatureBlocks.own(schema)

    def attributes_alone(vectors: Float[Array | np.ndarray, "M P w"]) -> Float[np.ndarray, "M N w"]:
        return np.asarray(blocks.by_attribute(np.asarray(vectors)))

    posteriors = make_space("posterior", material)
    controls = {
        "posterior": (posteriors.gallery, posteriors.held_out),
        **_backbone_controls(material, schema),
    }
    of_controls = {name: measure(*pair, kinds=()) for name, pair in controls.items()}
    return {
        **measure(attributes_alone(space.gallery), attributes_alone(space.held_out)),
        "controls": {
            name: {mean: measured[mean] for mean in ("own_accuracy", "mean", "conditional_mean")}
            for name, measured in of_controls.items()
        },
    }


def _measure_once(
    inputs: tuple[Float[np.ndarray, "M N d"], Int[np.ndarray, "M N"]],
    schema: AttributeSchema,
    options: Mapping[str, Any],
    *,
    cache: pathlib.Path | None,
    progress: bool,
) -> dict[str, Any]:
    """Measures the leakage of vectors with labels, for metrics.json, unless it was measured before."""

    def measure() -> dict[str, Any]:
        return measure_leakage(*inputs, schema, progress=progress, **options).as_json(schema)

    key = {"measure_leakage": inputs, "schema": (schema.names, schema.values), "options": options}
    return kept_result(cache, key, measure)


def _backbone_controls(
    material: Material, schema: AttributeSchema
) -> dict[str, tuple[Float[np.ndarray, "M N d"], Float[np.ndarray, "V N d"]]]:
    """Returns the backbone's output of both parts, projected at random and onto its principal components."""
    gallery, held_out = (np.asarray(x.embeddings) for x in (material.gallery, material.held_out))
    width, n = material.memory.shape[-1], schema.num_attributes
    rng = np.random.default_rng(SEED)
    directions = rng.normal(size=(n, gallery.shape[1], min(width, gallery.shape[1]))).astype(np.float32)
    random = tuple(np.einsum("mh,nhd->mnd", x, directions, optimize=True) for x in (gallery, held_out))
    outputs = np.concatenate([gallery, held_out])
    mean = outputs.mean(axis=0)
    centered = (outputs - mean).astype(np.float64)
    # Less work than a singular value decomposition of all images; largest variance first.
    components = np.linalg.eigh(centered.T @ centered)[1].T[::-1][:width].astype(np.float32)
    principal = tuple(np.repeat(((x - mean) @ components.T)[:, None], n, axis=1) for x in (gallery, held_out))
    return {"random_projection": (random[0], random[1]), "backbone": (principal[0], principal[1])}
