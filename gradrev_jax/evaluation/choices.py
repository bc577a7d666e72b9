"""Chooses what serves best on held-out images: the strength of a manipulation, the weights of attributes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.metrics import hit_rate
from gradrev_jax.core.normalization import NORMALIZATIONS, scale_weights
from gradrev_jax.core.replacement import EDITS, Edit
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.core.spaces import Space
from gradrev_jax.data.catalogue import VALIDATION
from gradrev_jax.data.queries import Queries
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.evaluation.searching import Way, index_held_out, make_held_out, with_rest
from gradrev_jax.evaluation.weighted_hits import HeldOut, WeightedHits
from gradrev_jax.runs.protocol import Protocol, given_weights, queries_of
from gradrev_jax.search.gallery import GalleryIndex, retrieve
from gradrev_jax.search.products import NotComparableError

CANDIDATES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
CHOSEN_AT = 10  # K of the hit rate that decides
# What a weight is multiplied by, from 1/4 to 4: first 1, which keeps it, then the nearest to that. Of equally
# good ones, the first is taken.
FACTORS = tuple(2 ** (i / 2) for i in (0, -1, 1, -2, 2, -3, 3, -4, 4))
LEAST, MOST = 1 / 16, 16.0  # the range of the weights
SWEEPS = 3  # times that every weight is revised
# The queries that weights are chosen by: those of so many reference images, or fewer, so that the products
# of the queries with the images fit into memory.
REFERENCES, PRODUCT_BYTES, SEED = 500, 2**29, 0


class Strength(NamedTuple):
    """Represents the strength of all manipulations of an evaluation.

    Attributes:
      value: the factor of the prototypes that are added and removed.
      hit_rates: the hit rate of every strength tried, by its name; empty if the strength was given.
    """

    value: float
    hit_rates: dict[str, float]


class Weights(NamedTuple):
    """Represents the weights of the attributes in the distance of an evaluation.

    Attributes:
      value: the weight of each block, [P], with a mean square of 1: those of the attributes, and after them
        one and the same for every other block, if there are any; None: there are none.
      hit_rates: the hit rates of ``equal`` weights and of those ``chosen``; empty if none were chosen.
    """

    value: Float[np.ndarray, " P"] | None
    hit_rates: dict[str, float]


class Choices(NamedTuple):
    """Represents what an evaluation was given, or has chosen on the validation part.

    Attributes:
      way: how images are compared and edited.
      hit_rates: the hit rate of every normalisation and edit tried, by their names; empty if both were given.
      strength: the strength of the manipulations.
      weights: the weights of the attributes.
    """

    way: Way
    hit_rates: dict[str, float]
    strength: Strength
    weights: Weights


def make_choices(run: OpenedRun, space: Space, *, progress: bool) -> Choices:
    """Returns the way to search that the protocol gives, or else the one that serves best.

    It serves best on the validation part. The normalisation and the edit come first, each at its own best
    strength; a normalisation that some vector cannot have is left out. Where weights are chosen, too, they
    are at this strength; and then the strength again, at these weights.

    Raises:
      DataError: there is no query to choose by.
      NotComparableError: there is no way in which the vectors can be compared.
    """
    protocol = run.protocol
    weights = Weights(with_rest(given_weights(protocol, run.schema), space.gallery.shape[1]), {})
    strength = Strength(1.0 if protocol.strength is None else protocol.strength, {})
    ways = _ways(run, strength, weights)
    # Where attributes share a block, there is nothing to weigh.
    weighs = protocol.chooses_weights and space.gallery.shape[1] >= run.schema.num_attributes
    if not (protocol.strength is None or weighs or len(ways) > 1):
        return Choices(ways[0], {}, strength, weights)
    labels, queries = run.catalogue.part_labels(VALIDATION), held_out_queries(run)
    check_queries(queries, _first_chosen(protocol))

    def held_out_of(way: Way) -> HeldOut:
        return make_held_out(space, labels, queries, run.schema, way, exclude_query=protocol.exclude_query)

    def strength_of(way: Way) -> Strength:
        candidates = CANDIDATES if protocol.strength is None else (protocol.strength,)
        return choose_strength(
            held_out_of(way), weights=way.weights, candidates=candidates, progress=progress
        )

    way = ways[0]
    hit_rates: dict[str, float] = {}
    if len(ways) > 1:
        way, of_way, hit_rates = _best_way(ways, strength_of)
        strength = of_way if protocol.strength is None else strength
    elif protocol.strength is None:
        strength = strength_of(way)
    if weighs:
        held_out = held_out_of(way)
        weights = choose_weights(held_out, strength=strength.value, progress=progress)
        way = way._replace(weights=weights.value)
        if protocol.strength is None:
            strength = strength_of(way)
    return Choices(way._replace(strength=strength.value), hit_rates, strength, weights)


def _ways(run: OpenedRun, strength: Strength, weights: Weights) -> list[Way]:
    """Returns all normalisations with all edits, of those that the protocol leaves open."""
    representation, protocol = REPRESENTATIONS[run.protocol.representation], run.protocol
    fixed = representation.normalize or protocol.normalize
    edits: Sequence[Edit | LearnedEdit] = (protocol.edit,) if protocol.edit else EDITS
    if representation.reads == "features" and run.edits != EDITS:
        edits = run.edits
    return [
        Way(normalize, edit, strength.value, weights.value)
        for normalize in ((fixed,) if fixed else NORMALIZATIONS)
        for edit in edits
    ]


def _best_way(
    ways: Sequence[Way], strength_of: Callable[[Way], Strength]
) -> tuple[Way, Strength, dict[str, float]]:
    """Returns the way that finds most, its best strength, and the hit rate of each way.

    Raises:
      NotComparableError: vectors cannot be compared in any of the ways.
    """
    tried: list[tuple[Way, Strength]] = []
    for way in ways:
        try:
            tried.append((way, strength_of(way)))
        except NotComparableError:  # such as an attribute's block of zeros, which has no direction
            if way is ways[-1] and not tried:
                raise
    hit_rates = {f"{way.normalize}, {way.edit}": max(each.hit_rates.values()) for way, each in tried}
    way, strength = max(tried, key=lambda pair: max(pair[1].hit_rates.values()))
    return way, strength, hit_rates


def _first_chosen(protocol: Protocol) -> str:
    """Returns the first field of the protocol that is chosen on the validation part."""
    normalize = REPRESENTATIONS[protocol.representation].normalize or protocol.normalize
    fields = {"strength": protocol.strength, "normalize": normalize, "edit": protocol.edit}
    return next((name for name, value in fields.items() if value is None), "weights")


def held_out_queries(run: OpenedRun) -> Queries:
    """Returns the queries that a run's choices are made by, of which there may be none."""
    return queries_of(run.catalogue, VALIDATION, run.protocol, run.seed)


def choose_strength(
    held_out: HeldOut,
    *,
    weights: Float[np.ndarray, " P"] | None = None,
    candidates: Sequence[float] = CANDIDATES,
    progress: bool = True,
) -> Strength:
    """Returns the strength of highest hit_rate@10 (with fewer than 20 images, @ half of their number).

    Args:
      held_out: the images and the queries to choose by.
      weights: the weight of each block; None: all 1.
      candidates: the strengths to try; of equally good ones, the first is chosen.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by.
    """
    check_queries(held_out.queries, "strength")
    index = index_held_out(held_out, weights)
    found = _hit_rates(index, held_out, candidates, progress=progress)
    hit_rates = {f"{strength:g}": rate for strength, rate in zip(candidates, found, strict=True)}
    return Strength(float(candidates[int(np.argmax(found))]), hit_rates)


def choose_weights(held_out: HeldOut, *, strength: float, progress: bool = True) -> Weights:
    """Returns weights of high hit_rate@10, by coordinate ascent from equal ones.

    One attribute after the other, and then all blocks that belong to none, as one, the weight is multiplied
    by the factor from a quarter to four that finds a match for most queries, between 1/16 and 16; it is kept
    unless another finds more. This is done three times. Of many images, the queries of 500 are looked at. The
    weights that result are taken if they are better on all queries than equal ones are.

    Args:
      held_out: the images and the queries to choose by.
      strength: the factor of the manipulations.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by.
    """
    check_queries(held_out.queries, "weights")
    equal = np.ones(held_out.num_weights)

    def search(weights: Float[np.ndarray, " P"]) -> float:
        return _hit_rates(index_held_out(held_out, weights), held_out, (strength,), progress=progress)[0]

    of_blocks = held_out.weights_of_blocks(equal)
    hit_rates = {"equal": search(of_blocks)}
    drawn = held_out._replace(queries=_draw(held_out.queries, len(held_out.labels), len(equal)))
    hits = WeightedHits.of(drawn, strength, _chosen_at(held_out))
    ascended = held_out.weights_of_blocks(_ascend(hits, equal, progress=progress))
    weights = scale_weights(ascended, len(ascended))
    if weights is not None:
        hit_rates["chosen"] = search(weights)
        if hit_rates["chosen"] > hit_rates["equal"]:
            return Weights(weights, hit_rates)
    return Weights(of_blocks, hit_rates)


def _ascend(
    hits: WeightedHits, weights: Float[np.ndarray, " W"], *, progress: bool
) -> Float[np.ndarray, " W"]:
    """Revises one weight after the other until a sweep over all of them changes nothing, or SWEEPS times."""
    weights = weights.copy()
    with tqdm(
        total=SWEEPS * len(weights), desc="weights", unit="weight", disable=not progress, leave=False
    ) as bar:
        for _ in range(SWEEPS):
            before = weights.copy()
            for n in range(len(weights)):
                tried = np.tile(weights, (len(FACTORS), 1))
                tried[:, n] = np.clip(weights[n] * np.array(FACTORS), LEAST, MOST)
                weights = tried[hits.count(tried).argmax()]
                bar.update()
            if (weights == before).all():
                break
    return weights


def _draw(queries: Queries, num_images: int, num_weights: int) -> Queries:
    """Returns the queries of some reference images, so that their products fit into memory."""
    drawn = queries.sample_references(REFERENCES, SEED)
    most = max(1, PRODUCT_BYTES // (4 * num_images * num_weights))
    return drawn.take(np.arange(most) * len(drawn) // most) if len(drawn) > most else drawn


def _hit_rates(
    index: GalleryIndex, held_out: HeldOut, strengths: Sequence[float], *, progress: bool
) -> list[float]:
    """Returns the share of the queries that find a match at each strength.

    One search asks at all strengths, because what a search computes of a reference serves them all.
    """
    queries, k = held_out.queries, _chosen_at(held_out)
    found = retrieve(
        index,
        np.tile(queries.reference, len(strengths)),
        np.tile(queries.indicators, (len(strengths), 1)),
        k,
        strength=np.repeat(np.asarray(strengths, float), len(queries)),
        exclude_query=held_out.exclude_query,
        progress=progress,
    )
    by_strength = found.reshape(len(strengths), len(queries), k)
    return [float(hit_rate(held_out.labels[rows], queries.targets, k)) for rows in by_strength]


def _chosen_at(held_out: HeldOut) -> int:
    return min(CHOSEN_AT, (len(held_out.labels) + 1) // 2)


def check_queries(queries: Queries, field: str) -> None:
    """Checks that there is a query to choose a field of the protocol by.

    Raises:
      DataError: there is none.
    """
    if not len(queries):
        raise DataError(
            f"protocol.{field}=validation has no query to choose by: no held-out image has the labels of "
            "another with one attribute changed; hold out more (train.validation_fraction), or give a value"
        )
