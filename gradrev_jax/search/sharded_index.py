"""Search for manipulated features in a gallery that is divided over devices."""

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import refuse_traced
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.normalization import Normalization, Weights, weigh_features
from gradrev_jax.core.replacement import Edit
from gradrev_jax.search.arguments import UNTRACEABLE, check_shapes, validate_k, validate_reference_ids
from gradrev_jax.search.batching import search_all
from gradrev_jax.search.changes import make_changes
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.neighbors import Neighbors, as_neighbors
from gradrev_jax.search.products import check_gallery
from gradrev_jax.search.references import ReferenceRows


@dataclasses.dataclass(frozen=True)
class ShardedIndex:
    """One ``ManipulationIndex`` per device, each of a contiguous part of the gallery.

    The result is that of a single index: each device finds its nearest rows, whose distances are computed
    exactly, and the nearest of all devices are kept, ties to the lower index.

    Attributes:
      features: [G, P, d], the gallery as it was given.
      shards: the index of each part, in the order of the gallery's rows.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
      >>> gallery = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8]]], np.float32)
      >>> index = ShardedIndex.build(gallery, memory, schema)
      >>> index.search(reference_ids=np.array([0]), indicators=np.array([[-1, 1]]), k=2).indices.tolist()
      [[1, 2]]
    """

    features: Float[np.ndarray, "G P d"]
    shards: tuple[ManipulationIndex, ...]

    @classmethod
    def build(
        cls,
        features: Float[Array | np.ndarray, "G P d"],
        memory: Float[Array | np.ndarray, "J P d"],
        schema: AttributeSchema,
        normalize: Normalization = "global",
        devices: Sequence[jax.Device] | None = None,
        weights: Weights | None = None,
        edit: Edit = "add",
        absent: Float[Array | np.ndarray, "N d"] | None = None,
    ) -> "ShardedIndex":
        """Divides a gallery over devices.

        Args:
          features: [G, P, d], the gallery, not normalised.
          memory: [J, P, d], the prototypes.
          schema: the attributes.
          normalize: the normalisation of the features after the manipulation.
          devices: the devices to use; None: all devices of this process.
          weights: [P], the weight of each block in the distance; 0 leaves it out. None: all 1.
          edit: the kind of edits, as for ``ManipulationIndex.build``.
          absent: [N, d], for ``replace``: the block of an attribute whose value is removed without another;
            None: zeros.

        Raises:
          ValueError: as for ``ManipulationIndex.build``.
        """
        refuse_traced(UNTRACEABLE, features, memory)
        check_shapes(features, memory, schema)
        rows = np.asarray(features)
        devices = list(devices or jax.local_devices())[: max(1, len(rows))]
        shards = []
        for part, device in zip(np.array_split(rows, len(devices)), devices, strict=True):
            shard = ManipulationIndex.build_unchecked(
                part, memory, normalize, weights, edit, schema.attribute_of, absent
            )
            products = jax.device_put(shard.products, device)
            shards.append(dataclasses.replace(shard, products=products))
        check_gallery([shard.products for shard in shards])
        return cls(rows, tuple(shards))

    def search(
        self,
        *,
        reference_ids: Int[Array | np.ndarray, " Q"],
        indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
        k: int,
        strength: float | Float[np.ndarray, " Q"] = 1.0,
        exclude_reference: bool = False,
    ) -> Neighbors:
        """Finds the k rows of the whole gallery nearest to each manipulated reference.

        Args:
          reference_ids: [Q], the gallery rows to manipulate.
          indicators: [Q, J], the edits; zeros leave the reference as it is.
          k: the number of neighbours.
          strength: the factor of the edits; one of all queries, or one of each, [Q].
          exclude_reference: whether the reference itself is left out of its result.

        Returns:
          Indices and distances, [Q, k].

        Raises:
          ValueError: as for ``ManipulationIndex.search``.
        """
        k = validate_k(k, len(self.features), exclude_reference=exclude_reference)
        reference_ids = validate_reference_ids(reference_ids, len(self.features))
        products = self.shards[0].products
        changes = make_changes(
            indicators, strength, products.memory, self.shards[0].replacement, len(reference_ids)
        )
        wanted = k + exclude_reference

        def search(shard: ManipulationIndex) -> tuple[np.ndarray, np.ndarray]:
            return search_all(
                shard.products,
                self._take,
                reference_ids,
                changes,
                min(wanted, len(shard.features)),
                exact_distances=True,
            )

        with ThreadPoolExecutor(len(self.shards)) as pool:
            found = list(pool.map(search, self.shards))
        indices = np.concatenate(
            [part + start for (part, _), start in zip(found, self._starts, strict=True)], axis=1
        )
        distances = np.concatenate([part for _, part in found], axis=1)
        order = np.lexsort((indices, distances), axis=1)[:, :wanted]
        indices, distances = (np.take_along_axis(x, order, axis=1) for x in (indices, distances))
        return as_neighbors(indices.astype(np.int32), distances, reference_ids if exclude_reference else None)

    @property
    def _starts(self) -> list[int]:
        """The first gallery row of each shard."""
        sizes = [len(shard.features) for shard in self.shards]
        return [0, *itertools.accumulate(sizes[:-1])]

    def _take(self, ids: Int[np.ndarray, " R"]) -> ReferenceRows:
        """Returns gallery rows as references, in arrays that any device may use."""
        first = self.shards[0]
        dtype = first.products.rows.dtype
        rows = np.zeros((len(ids), *self.features.shape[1:]), dtype)
        for shard, start in zip(self.shards, self._starts, strict=True):
            inside = np.flatnonzero((ids >= start) & (ids < start + len(shard.features)))
            if inside.size:
                rows[inside] = np.asarray(shard.products.rows[ids[inside] - start])
        features = jnp.asarray(self.features[ids], dtype)
        weights = None if first.products.weights is None else np.asarray(first.products.weights)
        return ReferenceRows(weigh_features(features, first.normalize, weights), jnp.asarray(rows))
