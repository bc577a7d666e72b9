"""Computes the numbers of a study of what labels do not say, and shows them as a table and a figure."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from gradrev_jax.core.json_numbers import json_number
from gradrev_jax.evaluation.bootstrap import (
    CONFIDENCE,
    SAMPLES,
    Resampled,
    column_means,
    difference_samples,
    percentile_interval,
    resample_references,
    seeds_samples,
)
from gradrev_jax.evaluation.comparison.differences import standard_deviations
from gradrev_jax.evaluation.comparison.words import format_difference, format_interval
from gradrev_jax.evaluation.figures import OTHER, tidy
from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.markdown import escape, percent, table
from gradrev_jax.evaluation.scores import SCORES_FILE, read_scores
from gradrev_jax.evaluation.significance import holm, p_values
from gradrev_jax.runs import workdir

MEAN = "mean"
# Measure -> the metric of queries.npz and its cut-off; {} is the attribute that was left out.
MEASURES = {
    "hit_rate@10": ("hit_rate", 10),
    "ndcg_others@30": ("ndcg_others", 30),
    "kept@10": ("kept.{}", 10),
    "kept_among_matches@10": ("kept_among_matches.{}", 10),
    "near@10": ("near.", 10),
}
MEANINGS = {
    "hit_rate@10": "target changed",
    "ndcg_others@30": "labels kept",
    "kept@10": "unlabelled kept",
    "kept_among_matches@10": "unlabelled kept, among matches",
    "near@10": "nuisances near",
}


class Answers(NamedTuple):
    """Represents how good the answers of a run are.

    Attributes:
      reference: [Q], the gallery row that each query manipulates.
      columns: float64 [Q, M], the score of each query by each of ``MEASURES``; NaN: none.
    """

    reference: np.ndarray
    columns: np.ndarray

    def means(self) -> dict[str, float | None]:
        """Returns the mean of each measure."""
        return dict(zip(MEASURES, map(json_number, column_means(self.columns).tolist()), strict=True))


class Evaluated(NamedTuple):
    """Represents a run that was evaluated in one way.

    Attributes:
      left_out: the attribute that the run does not know.
      system: the system.
      way: the name of the way.
      seed: the seed of the run.
      answers: the scores of its queries.
      numbers: what is recorded of it.
    """

    left_out: str
    system: str
    way: str
    seed: int
    answers: Answers
    numbers: Mapping[str, Any]


def read_answers(directory: pathlib.Path, left_out: str) -> Answers:
    """Reads the scores of a run's last evaluation by all measures; that of nuisances is their mean.

    Args:
      directory: the run's folder.
      left_out: the attribute that the run does not know.
    """
    stages = workdir.read_config(directory)["stages"]
    scores = read_scores(workdir.report_directory(directory, stages[-1], stages) / SCORES_FILE)
    nothing = np.full(len(scores.reference), np.nan)
    columns = []
    for metric, k in MEASURES.values():
        place = scores.ks.tolist().index(k)
        name = metric.format(left_out)
        names = [name] if not metric.endswith(".") else [n for n in scores.by_metric if n.startswith(name)]
        found = [scores.by_metric[n][:, place].astype(float) for n in names if n in scores.by_metric]
        columns.append(column_means(np.stack(found)) if found else nothing)
    return Answers(scores.reference, np.stack(columns, axis=1))


def summarize(evaluated: Sequence[Evaluated], *, not_in_mean: Sequence[str] = ()) -> dict[str, Any]:
    """Computes means over seeds with two-level intervals, and the differences to the first system and way.

    Seeds whose queries are the same share the draws of the references. If each has queries of its own, as on
    drawn garments, each has its own draws, and the spread of the seeds holds that of their images, too.

    Args:
      evaluated: all runs in all ways; every system and way has the same attributes and seeds.
      not_in_mean: what stands in place of an attribute, and is left out of the mean over attributes, unless
        there is nothing else.

    Returns:
      ``confidence`` and ``samples``; ``rows``, one per system, way and attribute and one for their mean; and
      ``differences``, where ``holm`` takes all those of the means together.
    """
    left_out = list(dict.fromkeys(each.left_out for each in evaluated))
    variants = list(dict.fromkeys((each.system, each.way) for each in evaluated))
    seeds = sorted({each.seed for each in evaluated})
    of = {(each.system, each.way, each.seed, each.left_out): each for each in evaluated}
    counted = [n for n, name in enumerate(left_out) if name not in not_in_mean] or list(range(len(left_out)))
    first = [[of[(*variants[0], seed, name)].answers for name in left_out] for seed in seeds]
    shared = all(_same_queries(first[0], each) for each in first)
    resampled = {
        (system, way): _over_seeds(
            [
                _resample(
                    [of[system, way, seed, name].answers for name in left_out],
                    counted,
                    draws=0 if shared else place,
                )
                for place, seed in enumerate(seeds)
            ]
        )
        for system, way in variants
    }
    shown = [*left_out, MEAN]
    rows = [
        {"left_out": name, "system": system, "way": way, "measures": measures, **_beside(evaluated, *place)}
        for (system, way), each in resampled.items()
        for name, measures in zip(shown, _described(each, len(shown)), strict=True)
        for place in [(system, way, [left_out[n] for n in counted] if name == MEAN else [name])]
    ]
    return {
        "confidence": CONFIDENCE,
        "samples": SAMPLES,
        "same_queries_for_all_seeds": shared,
        "rows": rows,
        "differences": _differences(resampled, shown),
    }


def _same_queries(a: Sequence[Answers], b: Sequence[Answers]) -> bool:
    return all(np.array_equal(x.reference, y.reference) for x, y in zip(a, b, strict=True))


def _resample(answers: Sequence[Answers], counted: Sequence[int], *, draws: int) -> Resampled:
    """Resamples the references of one seed, for all attributes at once: the same images answer for each.

    Args:
      answers: the answers without each of A attributes.
      counted: the attributes that the mean over attributes is taken of.
      draws: the seed of the draws.

    Returns:
      The means of M measures of each attribute, and then those of their mean, [B, (A + 1) M].
    """
    attributes, measures = len(answers), len(MEASURES)
    values = np.full((sum(len(each.reference) for each in answers), attributes, measures), np.nan)
    start = 0
    for n, each in enumerate(answers):
        values[start : start + len(each.reference), n] = each.columns
        start += len(each.reference)
    clusters = np.concatenate([each.reference for each in answers])
    resampled = resample_references(values.reshape(1, len(values), -1), clusters, seed=draws)

    def with_mean(columns: np.ndarray) -> np.ndarray:
        by_attribute = columns.reshape(len(columns), attributes, measures)
        mean = column_means(by_attribute[:, counted].transpose(1, 0, 2))
        return np.concatenate([columns, mean], axis=1)

    return Resampled(with_mean(resampled.means), with_mean(resampled.by_seed))


def _over_seeds(seeds: Sequence[Resampled]) -> Resampled:
    return Resampled(
        np.mean([each.means for each in seeds], axis=0), np.concatenate([each.by_seed for each in seeds])
    )


def _described(resampled: Resampled, count: int) -> list[dict[str, Any]]:
    """Returns the numbers of each attribute, and of their mean, by measure."""
    low, high = percentile_interval(seeds_samples(resampled))
    values = zip(
        resampled.by_seed.mean(axis=0).tolist(),
        low.tolist(),
        high.tolist(),
        standard_deviations(resampled.by_seed),
        resampled.by_seed.T.tolist(),
        strict=True,
    )
    numbers = [
        {
            "value": json_number(value),
            "low": json_number(lower),
            "high": json_number(upper),
            "seed_sd": deviation,
            "runs": [json_number(run) for run in runs],
        }
        for value, lower, upper, deviation, runs in values
    ]
    size = len(MEASURES)
    return [dict(zip(MEASURES, numbers[n * size : (n + 1) * size], strict=True)) for n in range(count)]


def _beside(
    evaluated: Sequence[Evaluated], system: str, way: str, left_out: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Returns the means of chance, and of the results without manipulation, over seeds and attributes."""
    chosen = [
        each.numbers
        for each in evaluated
        if (each.system, each.way) == (system, way) and each.left_out in left_out
    ]

    def mean(kind: str, name: str) -> float | None:
        values = [each[kind][name] for each in chosen if each[kind][name] is not None]
        return float(np.mean(values)) if values else None

    return {
        kind: {name: mean(kind, name) for name in chosen[0][kind]} for kind in ("chance", "no_manipulation")
    }


def _differences(
    resampled: Mapping[tuple[str, str], Resampled], shown: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the differences of every other system and way to the first, paired by seed and reference."""
    (first, base), *others = resampled.items()
    found = []
    for (system, way), each in others:
        samples = difference_samples(each, base, paired=True)
        low, high = percentile_interval(samples)
        columns = zip(
            [(name, measure) for name in shown for measure in MEASURES],
            (each.by_seed - base.by_seed).mean(axis=0).tolist(),
            low.tolist(),
            high.tolist(),
            p_values(samples).tolist(),
            strict=True,
        )
        for (name, measure), difference, lower, upper, p in columns:
            found.append(
                {
                    "left_out": name,
                    "system": system,
                    "way": way,
                    "minus": {"system": first[0], "way": first[1]},
                    "measure": measure,
                    "difference": json_number(difference),
                    "low": json_number(lower),
                    "high": json_number(upper),
                    "p": json_number(p),
                    "significant": lower > 0 or upper < 0,
                }
            )
    of_means = [each["p"] if each["left_out"] == MEAN else None for each in found]
    rejected = holm(np.array([np.nan if p is None else p for p in of_means], float))
    return [{**each, "holm": flag} for each, flag in zip(found, rejected.tolist(), strict=True)]


def results_table(result: Mapping[str, Any]) -> str:
    """Returns the table of a study, and that of the differences of its means, as Markdown."""
    rows, measures = result["rows"], _measured(result)
    header = ["left out", "system", *(f"{MEANINGS[name]}: {name}" for name in measures)]
    lines: list[list[str]] = [header]
    left_out = list(dict.fromkeys(row["left_out"] for row in rows))
    for name in left_out:
        of_name = [row for row in rows if row["left_out"] == name]
        for row in of_name:
            numbers = [row["measures"][measure] for measure in measures]
            cells = ["" if each["value"] is None else format_interval(each) for each in numbers]
            lines.append([escape(name), f"**{escape(_name(row))}**", *cells])
        for kind, words in (("no_manipulation", "no manipulation"), ("chance", "chance")):
            found = [of_name[0][kind].get(measure) for measure in measures]
            if any(value is not None for value in found):
                cells = ["" if value is None else percent(value) for value in found]
                lines.append([escape(name), words, *cells])
    text = [
        "All numbers are percentages: means over the seeds, with "
        f"{100 * result['confidence']:g} % intervals over seeds and reference images. Chance: random "
        f"results, and random ones of the matches. No manipulation: of {escape(_name(rows[0]))}.",
        "",
        *table(lines),
    ]
    return "\n".join([*text, *_difference_lines(result, measures)]) + "\n"


def _difference_lines(result: Mapping[str, Any], measures: Sequence[str]) -> list[str]:
    of_means = [each for each in result["differences"] if each["left_out"] == MEAN]
    if not of_means:
        return []
    lines = [["system", *measures]]
    for name in dict.fromkeys(map(_name, of_means)):
        row = {each["measure"]: each for each in of_means if _name(each) == name}
        lines.append([f"**{escape(name)}**", *(format_difference(row[measure]) for measure in measures)])
    return [
        "",
        f"Mean differences to {escape(_name(of_means[0]['minus']))}, paired by seed and reference image; "
        "a star: 0 lies outside, two: after Holm's correction over this table, too.",
        "",
        *table(lines),
    ]


def results_figure(result: Mapping[str, Any]) -> Figure:
    """Draws a panel per measure: all systems and ways, by the attribute that was left out."""
    measures, rows = _measured(result), result["rows"]
    left_out = list(dict.fromkeys(row["left_out"] for row in rows))
    variants = list(dict.fromkeys(map(_name, rows)))
    palette = matplotlib.color_sequences["tab10"]
    with lettered([*left_out, *variants]) as spell:
        size = (2.2 + (0.5 + 0.25 * len(variants)) * len(left_out), 2.4 * len(measures))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(measures), 1, squeeze=False, sharex=True)[:, 0]
        for axes, measure in zip(panels, measures, strict=True):
            for position, variant in enumerate(variants):
                numbers = [row["measures"][measure] for row in rows if _name(row) == variant]
                value, low, high = (
                    np.array([each[key] for each in numbers], float) for key in ("value", "low", "high")
                )
                place = np.arange(len(left_out)) + 0.6 * ((position + 0.5) / len(variants) - 0.5)
                axes.errorbar(
                    place,
                    value,
                    np.maximum(np.stack([value - low, high - value]), 0),
                    color=palette[position % len(palette)],
                    label=spell(variant),
                    fmt="o",
                    markersize=4,
                    capsize=2,
                )
            for n, name in enumerate(left_out):
                chance = next(row["chance"].get(measure) for row in rows if row["left_out"] == name)
                if chance is not None:
                    axes.hlines(chance, n - 0.4, n + 0.4, color=OTHER, linestyle=":")
            tidy(axes, "", f"{MEANINGS[measure]}\n{measure}")
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        panels[-1].set_xticks(range(len(left_out)), [spell(name) for name in left_out])
        panels[-1].set_xlabel("left out of training; dotted: chance")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    return figure


def _measured(result: Mapping[str, Any]) -> list[str]:
    """Returns the measures that any row has a value of."""
    return [
        name for name in MEASURES if any(row["measures"][name]["value"] is not None for row in result["rows"])
    ]


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['system']}, {row['way']}"
