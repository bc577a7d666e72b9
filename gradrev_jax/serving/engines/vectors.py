"""A gallery as an engine stores it: the vectors that are compared, computed when they are asked for."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import DataError
from gradrev_jax.files import replace_file
from gradrev_jax.search.block_comparison import BlockComparison
from gradrev_jax.search.index_files import fingerprint
from gradrev_jax.serving.engines.engine import EngineGallery

DIGEST = "blocks.digest"  # the file beside a kept gallery that has the digest of its numbers


@dataclasses.dataclass(frozen=True)
class ComparedVectors:
    """Represents the rows of a gallery as they are compared: weighted, normalised and concatenated.

    Attributes:
      blocks: the gallery, neither weighted nor normalised, [G, P, w]; it may be memory-mapped.
      comparison: how its rows are compared.

    Example:
      >>> comparison = BlockComparison.of_blocks(2, 2, "global", None)
      >>> ComparedVectors(np.array([[[3.0], [4.0]]], np.float32), comparison)[:1].round(3).tolist()
      [[0.6000000238418579, 0.800000011920929]]
    """

    blocks: Float[np.ndarray, "G P w"]
    comparison: BlockComparison

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and of numbers of a row."""
        return len(self.blocks), self.blocks.shape[1] * self.blocks.shape[2]

    def __getitem__(self, rows: slice) -> Float32[np.ndarray, "m D"]:
        """Returns some rows."""
        compared = self.comparison.apply(self.blocks[rows])
        return compared.reshape(len(compared), self.shape[1]).astype(np.float32)


def engine_gallery(
    blocks: Float[np.ndarray, "G P w"],
    comparison: BlockComparison,
    names: Sequence[str],
    labels: Int[np.ndarray, "G N"],
    schema: AttributeSchema,
    *,
    kept: pathlib.Path | None = None,
) -> EngineGallery:
    """Returns a gallery for an engine, with what distinguishes it from any other.

    Args:
      blocks: the gallery, neither weighted nor normalised, [G, P, w].
      comparison: how its rows are compared, where the rest has the factor 1.
      names: the names of the images.
      labels: the labels, [G, N], -1 = not labelled.
      schema: the attributes.
      kept: the folder that the blocks are kept in, and are removed with: the digest of their numbers, for
        which all are read, is kept there, too.
    """
    width = blocks.shape[1] * blocks.shape[2]
    rest_from = comparison.num_attributes * blocks.shape[2] if comparison.has_rest else width
    digest = hashlib.blake2b(_digest(blocks, kept).encode(), digest_size=16)
    about = [blocks.shape, comparison.normalize, comparison.weights.tolist(), list(names)]
    digest.update(json.dumps(about).encode())
    digest.update(np.ascontiguousarray(labels, np.int32).tobytes())
    return EngineGallery(
        ComparedVectors(blocks, comparison), rest_from, names, labels, schema, digest.hexdigest()
    )


def _digest(blocks: Float[np.ndarray, "G P w"], kept: pathlib.Path | None) -> str:
    """Returns the digest of the numbers of a gallery, from its folder if it is kept there."""
    if kept is None:
        return fingerprint(blocks)
    try:
        return (kept / DIGEST).read_text(encoding="utf-8")
    except OSError:
        digest = fingerprint(blocks)
    if os.access(kept, os.W_OK):
        replace_file(kept / DIGEST, digest.encode(), DataError)
    return digest
