"""Scores the answers of an evaluation by what its run was never told, for metrics.json and queries.npz."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.json_numbers import json_number
from gradrev_jax.data.catalogue import TEST, Catalogue
from gradrev_jax.evaluation.bootstrap import bootstrap_interval, column_means
from gradrev_jax.evaluation.scores import Scores
from gradrev_jax.evaluation.searching import Answers
from gradrev_jax.evaluation.unlabelled import (
    KEPT,
    NDCG,
    QueryScores,
    kept_among_matches_by_chance,
    kept_by_chance,
    kept_scores,
    near_scores,
)

UNLABELLED, NUISANCES = "unlabelled", "nuisances"  # sections of metrics.json
NEAR = "near"
SHOWN_KS = (10, 30)


def score_unlabelled(catalogue: Catalogue, scores: Scores, answers: Answers) -> tuple[Scores, dict[str, Any]]:
    """Scores the answers to queries by what the run was never told; nothing, if nothing of the kind is known.

    Args:
      catalogue: the catalogue, with labels left out or nuisances.
      scores: the scores of the queries.
      answers: the answers to the queries, K at least the largest cut-off.

    Returns:
      The scores with those of each attribute and nuisance, as ``kept.color`` and ``near.hue``, which a
      comparison of runs draws paired intervals from; and what metrics.json has of them: ``unlabelled`` and
      ``nuisances``, by name.
    """
    nuisances = _nuisances(catalogue)
    found, found_unedited = (_all_scores(catalogue, nuisances, scores, rows) for rows in answers)
    if not found:
        return scores, {}
    summary: dict[str, Any] = {}
    for (section, name), by_query in found.items():
        summary.setdefault(section, {})[name] = {
            **_means(by_query, scores.ks),
            **_chances(catalogue, scores, name, section),
            "intervals": _intervals(by_query, scores),
            "no_manipulation": _means(found_unedited[section, name], scores.ks),
        }
    named = {
        f"{metric}.{name}" if metric != NDCG else f"{NDCG}_{KEPT}.{name}": values.astype(np.float32)
        for (_, name), by_query in found.items()
        for metric, values in by_query.items()
    }
    return dataclasses.replace(scores, by_metric={**scores.by_metric, **named}), summary


def _nuisances(catalogue: Catalogue) -> dict[str, tuple[Float[np.ndarray, " G"], float]]:
    """Returns each nuisance of the test images, and its period, by name; empty if none is known."""
    if (known := catalogue.nuisances) is None:
        return {}
    values = known.of_rows(catalogue.parts[TEST])
    return dict(zip(known.names, zip(values.T, known.periods, strict=True), strict=True))


def _all_scores(
    catalogue: Catalogue,
    nuisances: Mapping[str, tuple[Float[np.ndarray, " G"], float]],
    scores: Scores,
    neighbors: Int[np.ndarray, "Q K"],
) -> dict[tuple[str, str], dict[str, QueryScores]]:
    """Returns the scores of every attribute that was left out and of every nuisance, by section and name."""
    ks = scores.ks.tolist()
    found: dict[tuple[str, str], dict[str, QueryScores]] = {}
    if catalogue.unlabelled is not None:
        matches = (scores.labels[neighbors] == scores.targets[:, None]).all(axis=-1)
        for n, name in enumerate(catalogue.unlabelled.schema.names):
            labels = catalogue.unlabelled.labels[catalogue.parts[TEST], n]
            found[UNLABELLED, name] = kept_scores(labels, neighbors, scores.reference, matches, ks)
    for name, (values, period) in nuisances.items():
        near = near_scores(values, neighbors, scores.reference, ks, period=period)
        found[NUISANCES, name] = {NEAR: near}
    return found


def _chances(catalogue: Catalogue, scores: Scores, name: str, section: str) -> dict[str, float | None]:
    """Returns the scores of chance for an attribute that was left out; none for a nuisance, where it is 0."""
    if section == NUISANCES or catalogue.unlabelled is None:
        return {}
    labels = catalogue.unlabelled.labels[catalogue.parts[TEST], catalogue.unlabelled.schema.names.index(name)]
    chance = kept_by_chance(labels, scores.reference)
    among = kept_among_matches_by_chance(labels, scores.reference, scores.labels, scores.targets)
    return {"chance": _mean(chance), "chance_among_matches": _mean(among)}


def _means(by_query: Mapping[str, QueryScores], ks: Int[np.ndarray, " C"]) -> dict[str, float | None]:
    """Returns the mean of each score at the cut-offs that are shown."""
    return {
        f"{name}@{ks[column]}": _mean(values[:, column])
        for name, values in by_query.items()
        for column in _shown(ks)
    }


def _intervals(by_query: Mapping[str, QueryScores], scores: Scores) -> dict[str, list[float | None]]:
    """Returns the interval of each mean over resampled references."""
    shown = _shown(scores.ks)
    bounds = {
        name: bootstrap_interval(values[:, shown], scores.reference) for name, values in by_query.items()
    }
    return {
        f"{name}@{scores.ks[column]}": [json_number(interval.low[place]), json_number(interval.high[place])]
        for name, interval in bounds.items()
        for place, column in enumerate(shown)
    }


def _shown(ks: Int[np.ndarray, " C"]) -> list[int]:
    """Returns the places of the cut-offs that are shown: 10 and 30, or else the largest."""
    return np.flatnonzero(np.isin(ks, SHOWN_KS)).tolist() or [int(ks.argmax())]


def _mean(values: Float[np.ndarray, " Q"]) -> float | None:
    return json_number(column_means(values[:, None])[0])
