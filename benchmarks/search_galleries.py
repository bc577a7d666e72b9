"""Galleries and queries for the search's benchmark: with class structure, without any, and of a run."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from benchmarks.evaluation import random_evaluation
from gradrev_jax import AttributeSchema, class_prototypes
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.data.catalogue import PARTS, TEST
from gradrev_jax.evaluation.encoding import encode_part, encode_run
from gradrev_jax.evaluation.opening import open_run

LONGER = 1.5  # the standard deviation of prototypes without class structure, relative to the features'
LOOK = 0.4  # the weight of the look in a representation that has one


class Gallery(NamedTuple):
    """Represents a gallery, its prototypes, and the queries that are asked of it.

    Attributes:
      features: [G, P, d], the gallery, not normalised.
      memory: [J, P, d], the prototypes.
      reference: [Q], the gallery row of each query.
      indicators: [Q, J], the edits.
      schema: the attributes.
    """

    features: Float[np.ndarray, "G P d"]
    memory: Float[np.ndarray, "J P d"]
    reference: Int[np.ndarray, " Q"]
    indicators: Int[np.ndarray, "Q J"]
    schema: AttributeSchema

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers that the time of a search depends on."""
        rows, blocks, dim = self.features.shape
        references = len(np.unique(self.reference))
        counts = {"gallery": rows, "references": references, "queries": len(self.reference)}
        return counts | {"blocks": blocks, "dim": dim}


def with_classes(gallery: int, references: int, queries: int, dim: int) -> Gallery:
    """Draws features around a centre per value; their prototypes are the mean features of each value."""
    features, labels, asked, schema = random_evaluation(gallery, references, queries, dim)
    memory = np.asarray(class_prototypes(features, labels, schema))
    return Gallery(features, memory, asked.reference, asked.indicators, schema)


def without_classes(gallery: int, references: int, queries: int, dim: int) -> Gallery:
    """Draws independent normal numbers, and prototypes that have nothing to do with them.

    The distances of the nearest rows hardly differ, which is the hardest that a search can be asked.
    """
    features, _, asked, schema = random_evaluation(gallery, references, queries, dim)
    rng = np.random.default_rng(0)
    rng.standard_normal(out=features, dtype=np.float32)
    memory = LONGER * rng.standard_normal((schema.num_values, *features.shape[1:]), np.float32)
    memory[np.arange(features.shape[1]) != schema.attribute_of[:, None]] = 0  # Eq. 6
    return Gallery(features, memory.astype(np.float32), asked.reference, asked.indicators, schema)


def galleries_of_run(folder: pathlib.Path, representation: str) -> Iterator[tuple[str, Gallery]]:
    """Yields what an evaluation of a run searches, by name; and the same queries in all of its images.

    Args:
      folder: the run's folder.
      representation: what is compared.
    """
    chosen = REPRESENTATIONS[representation]
    run = open_run(
        folder, step="best", stage=None, protocol={"representation": representation}, data={}, progress=False
    )
    material = encode_run(run, progress=False).material
    material = material._replace(look=material.look or LOOK)
    fitted = chosen.fit(material)

    def represent(part: str) -> np.ndarray:
        images = encode_part(run, part, run.inputs[part], progress=False)[1]
        return np.asarray(chosen.represent(images, fitted, run.schema, run.encoder.missing), np.float32)

    parts = [TEST, *(part for part in PARTS if part != TEST and part in run.inputs)]
    features, memory = [represent(part) for part in parts], np.asarray(fitted.memory, np.float32)
    for name, rows in (("run", features[0]), ("run_all_images", np.concatenate(features))):
        yield name, Gallery(rows, memory, run.queries.reference, run.queries.indicators, run.schema)
