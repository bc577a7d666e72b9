"""Answers the same queries in the obvious ways, by name: a result has to beat them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.erasure import Erasure, fit_conditional_erasure, fit_erasure
from gradrev_jax.core.missing_labels import class_labels, classes_of, value_positions
from gradrev_jax.core.replacement import edited_attributes
from gradrev_jax.core.representations import erased_space, make_space, mean_embedding
from gradrev_jax.core.spaces import Material, Prototypes, Space
from gradrev_jax.data.queries import Queries
from gradrev_jax.evaluation.choices import choose_strength
from gradrev_jax.evaluation.searching import HeldOut, Way, index_features
from gradrev_jax.search.gallery import retrieve
from gradrev_jax.search.neighbors import drop_excluded_rows
from gradrev_jax.search.products import NotComparableError

SEED = 0
ORACLE_BYTES = 2**27  # of the numbers of shared labels that are held at a time
NOTHING_LEFT = 1e-6  # an erasure whose matrices have no larger number leaves nothing but rounding errors


class BaselineInputs(NamedTuple):
    """Represents what baselines are computed from.

    Attributes:
      material: the encoded images.
      queries: the queries to ask of the test part.
      held_out_queries: the queries to choose a strength by, on the validation part.
      way: how features are compared and edited.
      k: the number of neighbours.
      exclude_query: whether the query image itself is left out of its result.
      progress: whether progress bars are shown.
    """

    material: Material
    queries: Queries
    held_out_queries: Queries
    way: Way
    k: int
    exclude_query: bool
    progress: bool


def oracle(inputs: BaselineInputs) -> Int[np.ndarray, "Q K"]:
    """Searches with the true labels, so that it finds every image that has those asked for.

    The more labels an image shares with those asked for, the nearer it is; ties go to the lower row.
    """
    asked, of_gallery = _labels_asked_for(inputs)
    distinct, query = np.unique(asked, axis=0, return_inverse=True)
    k = inputs.k + inputs.exclude_query
    found = np.empty((len(distinct), k), np.int32)
    step = max(1, ORACLE_BYTES // (8 * len(of_gallery)))
    for start in range(0, len(distinct), step):
        found[start : start + step] = _most_in_common(distinct[start : start + step], of_gallery, k)
    rows = found[query.reshape(-1)]
    if not inputs.exclude_query:
        return rows
    return drop_excluded_rows(rows, inputs.queries.reference)


def _labels_asked_for(inputs: BaselineInputs) -> tuple[Int[np.ndarray, "Q C"], Int[np.ndarray, "M C"]]:
    """Returns the labels that each query asks for, and those of the gallery, one-hot; -1 is a label, too."""
    schema, queries = inputs.material.schema, inputs.queries
    classes = classes_of(schema, "value")
    labels = class_labels(inputs.material.gallery.labels, schema, "value")
    of_gallery = np.asarray(classes.one_hot(labels), np.int8)
    positions = value_positions(schema, "value")
    last = np.setdiff1d(np.arange(classes.num_values), positions)  # the classes of missing labels
    replaced, emptied = edited_attributes(queries.indicators, schema.membership)
    asked = of_gallery[queries.reference] * ~np.asarray(replaced)[:, classes.attribute_of]
    asked[:, positions] += np.maximum(queries.indicators, 0)
    asked[:, last] += np.asarray(emptied)
    return asked, of_gallery


def _most_in_common(
    asked: Int[np.ndarray, "T C"], of_gallery: Int[np.ndarray, "M C"], k: int
) -> Int[np.ndarray, "T k"]:
    """Returns the k rows of the gallery that share most labels, ties to the lower row."""
    size = len(of_gallery)
    shared = asked.astype(np.float32) @ of_gallery.astype(np.float32).T
    keys = np.arange(size) - size * shared.astype(np.int64)  # all different, so that any sort is stable
    return np.sort(np.partition(keys, k - 1, axis=1)[:, :k], axis=1) % size


def random(inputs: BaselineInputs) -> Int[np.ndarray, "Q K"]:
    """Draws images at random: for each query, consecutive ones of a random circular order of the gallery."""
    rng = np.random.default_rng(SEED)
    queries, size = inputs.queries, len(inputs.material.gallery.labels)
    order = rng.permutation(size)
    candidates = size - inputs.exclude_query
    steps = rng.integers(0, candidates, len(queries))[:, None] + np.arange(inputs.k)
    # The circle begins after the query, which is the one step that is left out.
    begin = np.argsort(order)[queries.reference] + 1 if inputs.exclude_query else np.zeros(len(queries), int)
    return order[(begin[:, None] + steps % candidates) % size]


def backbone(inputs: BaselineInputs) -> Int[np.ndarray, "Q K"]:
    """Searches with the outputs of the backbone, centred, which nothing can edit."""
    material = inputs.material
    gallery = np.asarray(material.gallery.embeddings - mean_embedding(material))[:, None]
    num_values = material.schema.num_values
    memory, absent = np.zeros((num_values, *gallery.shape[1:])), np.zeros((1, gallery.shape[2]))
    prototypes = Prototypes(memory.astype(np.float32), absent)
    return _search(inputs, gallery.astype(np.float32), prototypes, Way("global", "add"))


def posterior(inputs: BaselineInputs) -> Int[np.ndarray, "Q K"]:
    """Searches with the probabilities of the classifiers alone, editing them by replacement."""
    return _search_at_best(
        inputs, make_space("posterior", inputs.material), Way("none", "replace", strength=2.0)
    )


def erased(inputs: BaselineInputs) -> Int[np.ndarray, "Q K"] | None:
    """Searches with features from which least squares erased all other attributes (LEACE)."""
    return _search_erased(inputs, fit_erasure)


def erased_given_own(inputs: BaselineInputs) -> Int[np.ndarray, "Q K"] | None:
    """Searches with features without what they tell of other attributes beyond their own label."""
    return _search_erased(inputs, fit_conditional_erasure)


# The order is that of the tables.
BASELINES: dict[str, Callable[[BaselineInputs], Int[np.ndarray, "Q K"] | None]] = {
    "oracle": oracle,
    "random": random,
    "backbone": backbone,
    "posterior": posterior,
    "erased": erased,
    "erased_given_own": erased_given_own,
}


def search_baseline(name: str, inputs: BaselineInputs) -> Int[np.ndarray, "Q K"] | None:
    """Returns the gallery rows that a baseline finds, nearest first; None if nothing is left to compare.

    Args:
      name: a name of ``BASELINES``.
      inputs: what it is computed from.
    """
    try:
        return BASELINES[name](inputs)
    except NotComparableError:  # what is zero has no direction to normalise
        return None


def _search_erased(inputs: BaselineInputs, fit: Callable[..., Erasure]) -> Int[np.ndarray, "Q K"] | None:
    """Searches with features and prototypes after the same erasure; None if it leaves only their means.

    It is also None if there is nothing to fit an erasure to, because the validation part has no images, or if
    several attributes share a block of the features: it would erase the other attributes of the block.
    """
    schema, blocks, held_out = inputs.material.schema, inputs.material.blocks, inputs.material.held_out
    if not len(held_out.labels) or (blocks is not None and not blocks.are_own):
        return None
    erasure = fit(held_out.features, held_out.labels, schema)
    if np.abs(erasure.matrices).max() < NOTHING_LEFT:
        return None
    return _search_at_best(inputs, erased_space(inputs.material, erasure), inputs.way)


def _search_at_best(inputs: BaselineInputs, space: Space, way: Way) -> Int[np.ndarray, "Q K"]:
    """Searches at the strength that serves best on the validation part; without one, at that of ``way``."""
    if len(inputs.held_out_queries):
        held_out = HeldOut(
            space.held_out,
            space.prototypes,
            inputs.material.held_out.labels,
            inputs.held_out_queries,
            inputs.material.schema,
            inputs.exclude_query,
        )
        # The strength is chosen at equal weights, whatever those of the run.
        equal = way._replace(weights=None)
        way = way._replace(strength=choose_strength(held_out, equal, progress=inputs.progress).way.strength)
    return _search(inputs, space.gallery, space.prototypes, way)


def _search(
    inputs: BaselineInputs, gallery: Float[Array | np.ndarray, "G P w"], prototypes: Prototypes, way: Way
) -> Int[np.ndarray, "Q K"]:
    return retrieve(
        index_features(gallery, prototypes, inputs.material.schema, way),
        inputs.queries.reference,
        inputs.queries.indicators,
        inputs.k,
        strength=way.strength,
        exclude_query=inputs.exclude_query,
        progress=inputs.progress,
    )
