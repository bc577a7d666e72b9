"""Measures the leakage of a run's features, beside that of what bounds it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.representations import make_space
from gradrev_jax.core.spaces import Material, Space
from gradrev_jax.evaluation.leakage import measure_leakage

SEED, FOLDS = 0, 5


@contextlib.contextmanager
def measuring_leakage(
    material: Material, space: Space, *, is_wanted: bool = True, progress: bool
) -> Iterator[Callable[[], dict[str, Any] | None]]:
    """Measures the leakage of a run in a thread during a block: probes and searches leave each other cores.

    An error in the block, such as Ctrl-C, waits for the measurement that is under way, and for no other.

    Args:
      material: the encoded images.
      space: the images as they are compared.
      is_wanted: whether anything is measured at all.
      progress: whether progress bars are shown.

    Yields:
      The function that waits for the leakage and returns it, see ``leakage_of_run``; of none, None.
    """
    if not is_wanted:
        yield lambda: None
        return
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        try:
            options: dict[str, Any] = {"progress": progress, "is_cancelled": cancelled.is_set}
            yield thread.submit(leakage_of_run, material, space, **options).result
        except BaseException:
            cancelled.set()
            raise


def leakage_of_run(
    material: Material,
    space: Space,
    *,
    progress: bool,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Measures what each attribute's block tells of the other attributes.

    Beside it stand, by the linear probe alone, the ``posterior`` of the same classifiers; a
    ``random_projection`` of the backbone's output per attribute, as wide as a feature; and the principal
    components of that output, as many, ``backbone``.

    Args:
      material: the encoded images.
      space: the images as they are compared.
      progress: whether progress bars are shown.
      is_cancelled: the function that is called before each measurement, and cancels the rest by True.

    Returns:
      The entry of metrics.json; None if there are too few images to measure anything.

    Raises:
      CancelledError: ``is_cancelled`` returned True.
    """
    schema, gallery, held_out = material.schema, material.gallery, material.held_out
    if len(gallery.labels) < FOLDS:
        return None

    def measure(of_gallery: Array | np.ndarray, of_held_out: Array | np.ndarray, **options: Any) -> Any:
        if is_cancelled():
            raise CancelledError
        extra = (np.asarray(of_held_out), held_out.labels) if len(held_out.labels) else None
        inputs = np.asarray(of_gallery), gallery.labels, schema
        measured = measure_leakage(*inputs, extra=extra, folds=FOLDS, progress=progress, **options)
        return measured.as_json(schema)

    # Of a representation, the first blocks are the attributes'; features stand where the encoder has them.
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
