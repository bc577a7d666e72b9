"""The search for manipulated features, with the gallery divided over devices."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.manipulation import Normalization, manipulate, normalize_features
from gradrev_jax.manipulation_candidates import measure
from gradrev_jax.manipulation_index import ManipulationIndex
from gradrev_jax.manipulation_search import check_k, checked_rows, without
from gradrev_jax.retrieval import Neighbors


@dataclasses.dataclass(frozen=True)
class ShardedIndex:
    """A ``ManipulationIndex`` a device, each of a part of the gallery.

    The result is that of one index: each device finds its nearest rows, which are measured by direct sums,
    and the nearest of all are kept, ties to the lower index.

    Attributes:
      features: [G, N, d], the gallery as it was given.
      shards: the indexes, of rows that follow each other.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
      >>> gallery = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8]]], np.float32)
      >>> index = ShardedIndex.build(gallery, memory, schema)
      >>> index.search(reference_ids=np.array([0]), indicators=np.array([[-1, 1]]), k=2).indices.tolist()
      [[1, 2]]
    """

    features: Float[np.ndarray, "G N d"]
    shards: tuple[ManipulationIndex, ...]

    @classmethod
    def build(
        cls,
        features: Float[Array | np.ndarray, "G N d"],
        memory: Float[Array | np.ndarray, "J N d"],
        schema: AttributeSchema,
        normalize: Normalization = "global",
        devices: Sequence[jax.Device] | None = None,
    ) -> "ShardedIndex":
        """Divide a gallery over devices; see ``ManipulationIndex.build``.

        Args:
          features: [G, N, d], not normalised.
          memory: [J, N, d] prototypes.
          schema: the attributes.
          normalize: how features are normalised after the manipulation.
          devices: None: all of this process.

        Raises:
          ValueError: as there.
        """
        rows = np.asarray(features)
        devices = list(devices or jax.local_devices())[: max(1, len(rows))]
        shards = []
        for part, device in zip(np.array_split(rows, len(devices)), devices, strict=True):
            shard = ManipulationIndex.build(part, memory, schema, normalize)
            products = jax.device_put(shard.products, device)
            shards.append(dataclasses.replace(shard, products=products))
        return cls(rows, tuple(shards))

    def search(
        self,
        *,
        reference_ids: Int[Array | np.ndarray, " Q"],
        indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
        k: int,
        strength: float = 1.0,
        exclude_reference: bool = False,
    ) -> Neighbors:
        """The k rows of the whole gallery nearest to each manipulated reference.

        Args:
          reference_ids: [Q], gallery rows to manipulate.
          indicators: [Q, J]; zeros leave the reference as it is.
          k: neighbours wanted.
          strength: how many prototypes are added and removed.
          exclude_reference: whether the reference itself is left out of its result.

        Raises:
          ValueError: as ``ManipulationIndex.search``.
        """
        check_k(k, len(self.features), exclude_reference=exclude_reference)
        rows = checked_rows(np.asarray(reference_ids), len(self.features))
        wanted = k + exclude_reference
        starts = np.cumsum([0, *(len(shard.features) for shard in self.shards)])

        def search(shard: ManipulationIndex) -> tuple[np.ndarray, np.ndarray]:
            """Rows of a shard, and their squared distances by direct sums, so that they compare."""
            given = self.features[rows]
            few = min(wanted, len(shard.features))
            found = shard.search(features=given, indicators=indicators, k=few, strength=strength)
            nearest = np.asarray(found.indices)
            products = shard.products
            edits = jnp.asarray(indicators, products.memory.dtype) * strength
            edited = manipulate(jnp.asarray(given, products.memory.dtype), edits, products.memory)
            vectors = normalize_features(edited, shard.normalize).reshape(edited.shape)
            query = np.repeat(np.arange(len(rows)), few)
            squares = measure(products.rows, vectors, query, nearest.reshape(-1))
            return nearest, squares.reshape(nearest.shape)

        with ThreadPoolExecutor(len(self.shards)) as pool:
            found = list(pool.map(search, self.shards))
        indices = np.concatenate(
            [part + start for (part, _), start in zip(found, starts, strict=False)], axis=1
        )
        squares = np.concatenate([part for _, part in found], axis=1)
        order = np.lexsort((indices, squares), axis=1)[:, :wanted]
        indices, squares = (np.take_along_axis(each, order, axis=1) for each in (indices, squares))
        distances = np.sqrt(squares)
        if exclude_reference:
            indices, distances = without(indices, distances, rows)
        return Neighbors(jnp.asarray(indices.astype(np.int32)), jnp.asarray(distances))
