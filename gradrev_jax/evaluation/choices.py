"""Chooses normalisation, edit, strength and weights of a search by the hit rate on held-out images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.metric_arguments import lower_cut_off
from gradrev_jax.core.metrics import hit_rate
from gradrev_jax.core.normalization import NORMALIZATIONS, scale_weights
from gradrev_jax.core.replacement import EDITS, Edit
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.core.spaces import Space
from gradrev_jax.data.catalogue import VALIDATION
from gradrev_jax.data.queries import Queries
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.evaluation.searching import HeldOut, Way, index_features, with_rest
from gradrev_jax.evaluation.weighted_hits import WeightedHits
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs.protocol import Protocol, check_queries, given_weights, queries_of
from gradrev_jax.search.gallery import retrieve
from gradrev_jax.search.products import NotComparableError

STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
CHOSEN_AT = 10  # K of the hit rate that decides
# What a weight is multiplied by, from 1/4 to 4: first 1, which keeps it, then the nearest to that. Of equally
# good ones, the first is taken.
FACTORS = tuple(2 ** (i / 2) for i in (0, -1, 1, -2, 2, -3, 3, -4, 4))
LEAST_WEIGHT, MOST_WEIGHT = 1 / 16, 16.0
SWEEPS = 3  # times that every weight is revised
# Weights are chosen by the queries of this many reference images, or by fewer queries, so that their products
# with the images fit into memory.
REFERENCES, PRODUCT_BYTES, SEED = 500, 2**29, 0


class Choice(NamedTuple):
    """Represents a way to search, of which one setting was chosen.

    Attributes:
      way: how images are compared and edited.
      hit_rates: the hit rate of everything tried, by its name.
    """

    way: Way
    hit_rates: dict[str, float]

    @property
    def hit_rate(self) -> float:
        """The hit rate of what was chosen."""
        return max(self.hit_rates.values())


class Choices(NamedTuple):
    """Represents the way to search that an evaluation was given, or has chosen on the validation part.

    Attributes:
      way: how images are compared and edited. Of the weights, those of the attributes come first, and after
        them one and the same for every other block, if there are any.
      ways_tried: the hit rate of every normalisation and edit tried, by name; empty if both were given.
      strengths_tried: the hit rate of every strength tried, by its name; empty if the strength was given.
      weights_tried: the hit rates of ``equal`` weights and of those ``chosen``; empty if none were chosen.
    """

    way: Way
    ways_tried: dict[str, float]
    strengths_tried: dict[str, float]
    weights_tried: dict[str, float]


def make_choices(run: OpenedRun, space: Space, *, progress: bool) -> Choices:
    """Returns the way to search that the protocol gives; what it leaves open, the validation part chooses.

    The normalisation and the edit come first, each pair at its own best strength; a normalisation that some
    vector cannot have is left out. Where weights are chosen, they are chosen at this strength, and then the
    strength again at these weights.

    Raises:
      DataError: there is no query to choose by.
      NotComparableError: there is no way in which the vectors can be compared.
    """
    protocol, ways = run.protocol, _ways(run, space)
    # Where attributes share a block, there is nothing to weigh.
    weighs = protocol.chooses_weights and space.gallery.shape[1] >= run.schema.num_attributes
    chosen = Choices(ways[0], {}, {}, {})
    if not (protocol.strength is None or weighs or len(ways) > 1):
        return chosen
    held_out = make_held_out(run, space, _first_chosen(protocol))
    if len(ways) > 1:
        chosen = _choose_way(held_out, ways, protocol.strength, progress=progress)
    elif protocol.strength is None:
        way, strengths = choose_strength(held_out, chosen.way, progress=progress)
        chosen = chosen._replace(way=way, strengths_tried=strengths)
    if weighs:
        way, weights = choose_weights(held_out, chosen.way, progress=progress)
        chosen = chosen._replace(way=way, weights_tried=weights)
        if protocol.strength is None:
            way, strengths = choose_strength(held_out, way, progress=progress)
            chosen = chosen._replace(way=way, strengths_tried=strengths)
    return chosen


def make_held_out(run: OpenedRun, space: Space, field: str) -> HeldOut:
    """Returns the images and the queries that a field of a run's protocol is chosen by.

    Raises:
      DataError: there is no query to choose by.
    """
    queries = held_out_queries(run)
    check_queries(queries, field)
    labels = run.catalogue.part_labels(VALIDATION)
    return HeldOut(space.held_out, space.prototypes, labels, queries, run.schema, run.protocol.exclude_query)


def _ways(run: OpenedRun, space: Space) -> list[Way]:
    """Returns all normalisations with all edits, of those that the protocol leaves open."""
    representation, protocol = REPRESENTATIONS[run.protocol.representation], run.protocol
    fixed = protocol.fixed_normalize
    edits: Sequence[Edit | LearnedEdit] = (protocol.edit,) if protocol.edit else EDITS
    if representation.reads == "features" and run.edits != EDITS:
        edits = run.edits
    strength = 1.0 if protocol.strength is None else protocol.strength
    weights = with_rest(given_weights(protocol, run.schema), space.gallery.shape[1])
    return [
        Way(normalize, edit, strength, weights)
        for normalize in ((fixed,) if fixed else NORMALIZATIONS)
        for edit in edits
    ]


def _choose_way(held_out: HeldOut, ways: Sequence[Way], strength: float | None, *, progress: bool) -> Choices:
    """Returns the way that finds most, at the strength that is given, or else at its best one.

    Raises:
      NotComparableError: vectors cannot be compared in any of the ways.
    """
    candidates = STRENGTHS if strength is None else (strength,)
    tried: list[Choice] = []
    for way in ways:
        try:
            tried.append(choose_strength(held_out, way, candidates=candidates, progress=progress))
        except NotComparableError:  # such as an attribute's block of zeros, which has no direction
            if way is ways[-1] and not tried:
                raise
    best = max(tried, key=lambda choice: choice.hit_rate)
    ways_tried = {f"{choice.way.normalize}, {choice.way.edit}": choice.hit_rate for choice in tried}
    return Choices(best.way, ways_tried, best.hit_rates if strength is None else {}, {})


def _first_chosen(protocol: Protocol) -> str:
    """Returns the first field of the protocol that is chosen on the validation part."""
    fields = {"strength": protocol.strength, "normalize": protocol.fixed_normalize, "edit": protocol.edit}
    return next((name for name, value in fields.items() if value is None), "weights")


def held_out_queries(run: OpenedRun) -> Queries:
    """Returns the queries that a run's choices are made by, of which there may be none."""
    return queries_of(run.catalogue, VALIDATION, run.protocol, run.seed)


def choose_strength(
    held_out: HeldOut, way: Way, *, candidates: Sequence[float] = STRENGTHS, progress: bool = True
) -> Choice:
    """Chooses the strength of highest hit_rate@10 (with fewer than 20 images, @ half of their number).

    Args:
      held_out: the images and the queries to choose by.
      way: how they are compared and edited, whatever the strength.
      candidates: the strengths to try; of equally good ones, the first is chosen.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by.
      NotComparableError: images that are not finite or cannot be normalised.
    """
    check_queries(held_out.queries, "strength")
    found = _hit_rates(held_out, way, candidates, progress=progress)
    hit_rates = {f"{strength:g}": rate for strength, rate in zip(candidates, found, strict=True)}
    return Choice(way._replace(strength=float(candidates[int(np.argmax(found))])), hit_rates)


def choose_weights(held_out: HeldOut, way: Way, *, progress: bool = True) -> Choice:
    """Chooses weights of high hit_rate@10, by coordinate ascent from equal ones.

    One attribute after the other, and then all blocks that belong to none, as one, the weight is multiplied
    by the factor from a quarter to four that finds a match for most queries, between 1/16 and 16; it is kept
    unless another finds more. This is done three times. Of many images, the queries of 500 are looked at. The
    weights that result, with a mean square of 1, are taken if they are better on all queries than equal ones.

    Args:
      held_out: the images and the queries to choose by.
      way: how they are compared and edited, whatever the weights.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by.
      NotComparableError: images that are not finite or cannot be normalised.
    """
    check_queries(held_out.queries, "weights")
    ones = np.ones(held_out.num_weights)
    equal = way._replace(weights=held_out.weights_of_blocks(ones))
    hit_rates = {"equal": _hit_rates(held_out, equal, (way.strength,), progress=progress)[0]}
    drawn = held_out._replace(queries=_draw(held_out.queries, len(held_out.labels), len(ones)))
    hits = WeightedHits.of(drawn, way, _cut_off(held_out))
    ascended = held_out.weights_of_blocks(_ascend(hits, ones, progress=progress))
    chosen = way._replace(weights=scale_weights(ascended, len(ascended)))
    if chosen.weights is None:  # they are equal
        return Choice(equal, hit_rates)
    hit_rates["chosen"] = _hit_rates(held_out, chosen, (way.strength,), progress=progress)[0]
    return Choice(chosen if hit_rates["chosen"] > hit_rates["equal"] else equal, hit_rates)


def _ascend(
    hits: WeightedHits, weights: Float[np.ndarray, " W"], *, progress: bool
) -> Float[np.ndarray, " W"]:
    """Revises one weight after the other until a sweep over all of them changes nothing, or SWEEPS times."""
    weights = weights.copy()
    with ProgressBar(
        total=SWEEPS * len(weights), desc="weights", unit="weight", progress=progress, leave=False
    ) as bar:
        for _ in range(SWEEPS):
            before = weights.copy()
            for n in range(len(weights)):
                tried = np.tile(weights, (len(FACTORS), 1))
                tried[:, n] = np.clip(weights[n] * np.array(FACTORS), LEAST_WEIGHT, MOST_WEIGHT)
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


def _hit_rates(held_out: HeldOut, way: Way, strengths: Sequence[float], *, progress: bool) -> list[float]:
    """Returns the share of the queries that find a match at each strength, whatever that of the way.

    One search asks at all strengths, because what a search computes of a reference serves them all.
    """
    queries, k = held_out.queries, _cut_off(held_out)
    index = index_features(held_out.images, held_out.prototypes, held_out.schema, way)
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


def _cut_off(held_out: HeldOut) -> int:
    return lower_cut_off(CHOSEN_AT, len(held_out.labels))
