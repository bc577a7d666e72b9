"""Writes the numbers of a comparison as a Markdown document."""

from collections.abc import Mapping, Sequence
from typing import Literal

from gradrev_jax.evaluation.comparison.further_sections import (
    baseline_section,
    field_section,
    leakage_section,
)
from gradrev_jax.evaluation.comparison.numbers import nearest_k
from gradrev_jax.evaluation.comparison.paper import PAPER, is_shopping100k, paper_note
from gradrev_jax.evaluation.comparison.record import ComparisonRecord
from gradrev_jax.evaluation.comparison.words import (
    describe_band,
    describe_seeds,
    describe_size,
    describe_ways,
    format_confidence,
    format_difference,
    format_interval,
    warn_of_mixed_runs,
)
from gradrev_jax.evaluation.markdown import code, describe_weights, escape, percent, table
from gradrev_jax.evaluation.report_texts import CROSS_ACCURACY
from gradrev_jax.evaluation.scores import ACCURACIES

NUMBERS = "comparison.json"
HIT_RATE, NDCG = "hit_rate", ("ndcg", "ndcg_target", "ndcg_others")  # the metrics with a section of their own
HIT_RATE_KS = (10, 20, 30, 40, 50)  # of Tables 3, 4 and 7
INDENT = "&nbsp;&nbsp;"


def comparison_markdown(
    comparison: ComparisonRecord, queries: Sequence[str], *, no_queries: str, note: str | None
) -> str:
    """Returns the text of comparison.md.

    Args:
      comparison: the numbers, from ``numbers.compare_systems``.
      queries: the change of each query that is shown, in words.
      no_queries: the reason why none is shown.
      note: a sentence on characters that no font has, or None.
    """
    return "\n".join(
        [
            *_introduction(comparison, note),
            "## Systems",
            "",
            "Compared by: the representation of images (lengths: what is scaled to length 1; look: its "
            "weight) and the edit, as the protocol gives or the validation part chose them; where runs of a "
            "system differ, each.",
            "",
            *table(_system_rows(comparison), numbers=False),
            "",
            *_hit_rate_section(comparison),
            *_ndcg_section(comparison),
            *_other_metrics_section(comparison),
            *_accuracy_section(comparison),
            "## Differences",
            "",
            *_difference_lines(comparison),
            *baseline_section(comparison),
            *leakage_section(comparison),
            "## Cross accuracy",
            "",
            CROSS_ACCURACY,
            "",
            "![Cross accuracy](cross_accuracy.png)",
            "",
            "## The same queries in all systems",
            "",
            *_query_lines(queries, no_queries),
            *field_section(comparison),
        ]
    )


def _introduction(comparison: ComparisonRecord, note: str | None) -> list[str]:
    names = {system["name"]: escape(system["name"]) for system in comparison["systems"]}
    return [
        f"# Comparison of {', '.join(names.values())}",
        "",
        f"{describe_size(comparison)}. All numbers are percentages; every one, at every K, is in "
        f"[{NUMBERS}]({NUMBERS}). In brackets: {format_confidence(comparison)} bootstrap intervals of "
        f"{comparison['samples']:,} samples, over reference images for retrieval, because queries of one "
        "reference depend on each other, and over test images for accuracy. They say how far other test "
        f"images would give other numbers. {describe_seeds(comparison, names)}",
        "",
        *(line for sentence in warn_of_mixed_runs(comparison, names) for line in (f"**{sentence}**", "")),
        *([escape(note, width=None), ""] if note else []),
    ]


def _hit_rate_section(comparison: ComparisonRecord) -> list[str]:
    ks = comparison["ks"]
    names = [f"{HIT_RATE}@{k}" for k in ([k for k in HIT_RATE_KS if k in ks] or ks)]
    return [
        "## Hit rate",
        "",
        "Queries with at least one image among K that has exactly the labels asked for. No manipulation: "
        "the query image's own neighbours, which is what manipulating has to beat.",
        "",
        *_retrieval_table(comparison, names),
        *paper_note(comparison),
        "![Hit rate](hit_rate.png)",
        "",
        f"Bands: {describe_band(comparison)}.",
        "",
    ]


def _ndcg_section(comparison: ComparisonRecord) -> list[str]:
    k = nearest_k(30, comparison["ks"])
    return [
        "## NDCG",
        "",
        "Graded by the labels that are right: of all attributes, of the changed one (target), and of "
        "those kept (others). A near neighbour has most labels right without any manipulation: compare "
        "target.",
        "",
        *_retrieval_table(comparison, [f"{metric}@{k}" for metric in NDCG]),
        *paper_note(comparison),
    ]


def _other_metrics_section(comparison: ComparisonRecord) -> list[str]:
    """Returns the section of the retrieval metrics that have none of their own."""
    columns = [name.split("@")[0] for name in comparison["systems"][0]["metrics"] if "@" in name]
    others = [metric for metric in dict.fromkeys(columns) if metric not in (HIT_RATE, *NDCG)]
    k = nearest_k(30, comparison["ks"])
    if not others:
        return []
    return [
        "## Other metrics",
        "",
        f"All others at K = {k}; precision: the share of the images among K that match.",
        "",
        *_retrieval_table(comparison, [f"{metric}@{k}" for metric in others]),
    ]


def _accuracy_section(comparison: ComparisonRecord) -> list[str]:
    names = [f"accuracy_{mean}" for mean in ACCURACIES]
    return [
        "## Attribute accuracy",
        "",
        "Macro: mean over attributes; micro: over labelled cells. Majority class: always naming the "
        "commonest training value.",
        "",
        *table(_score_rows(comparison, names, "majority", "majority class")),
        "",
        *paper_note(comparison),
    ]


def _retrieval_table(comparison: ComparisonRecord, names: Sequence[str]) -> list[str]:
    """Returns the table of some retrieval metrics beside those without manipulation."""
    return [*table(_score_rows(comparison, names, "no_manipulation", "no manipulation")), ""]


def _system_rows(comparison: ComparisonRecord) -> list[tuple[str, ...]]:
    """Returns the table of what the systems are; of weights, if any run has some."""
    weighted = any(weights for system in comparison["systems"] for weights in system["weights"])
    header = ("system", "what it is", "runs", "checkpoint of step", "compared by")
    rows: list[tuple[str, ...]] = [(*header, "weights") if weighted else header]
    for system in comparison["systems"]:
        steps = ", ".join(f"{step:,}" for step in dict.fromkeys(system["step"]))
        folders = ", ".join(map(code, system["runs"]))
        row = escape(system["name"]), system["what"], folders, steps, describe_ways(system)
        rows.append((*row, _all_weights(system["weights"])) if weighted else row)
    return rows


def _all_weights(by_run: Sequence[Mapping[str, float] | None]) -> str:
    """Returns the weights of a system's runs, each once."""
    return "; ".join(dict.fromkeys(describe_weights(weights) if weights else "none" for weights in by_run))


def _score_rows(
    comparison: ComparisonRecord,
    names: Sequence[str],
    baseline: Literal["majority", "no_manipulation"],
    baseline_name: str,
) -> list[tuple[str, ...]]:
    """Returns the header and the rows: each system's numbers, the spread of its runs, and the baseline.

    Args:
      comparison: the numbers.
      names: the columns, such as ``hit_rate@10``.
      baseline: the key of the baseline among the numbers of a column.
      baseline_name: the baseline in words.
    """
    rows: list[tuple[str, ...]] = [("system", *names)]
    for system in comparison["systems"]:
        metrics = [system["metrics"][name] for name in names]
        rows.append((f"**{escape(system['name'])}**", *map(format_interval, metrics)))
        if len(system["runs"]) > 1:
            spread = [
                f"{percent(min(metric['runs']))} to {percent(max(metric['runs']))}" for metric in metrics
            ]
            rows.append((f"{INDENT}lowest and highest of {len(system['runs'])} runs", *spread))
            deviations = [percent(sd) for metric in metrics if (sd := metric["seed_sd"]) is not None]
            rows.append((f"{INDENT}standard deviation of {len(system['runs'])} seeds", *deviations))
        rows.append((f"{INDENT}{baseline_name}", *(percent(metric[baseline]) for metric in metrics)))
    if is_shopping100k(comparison):
        for system_name, numbers in PAPER.items():
            if any(name in numbers for name in names):
                cells = [numbers.get(name, "") for name in names]
                rows.append((f"*paper: {system_name}*", *cells))
    return rows


def _difference_lines(comparison: ComparisonRecord) -> list[str]:
    """Returns the table of all pairs, one column per metric, and how to read it."""
    differences = comparison["differences"]
    if not differences:
        return ["There is only one system.", ""]
    metrics = list(dict.fromkeys(row["metric"] for row in differences))
    pairs = list(dict.fromkeys((row["first"], row["second"]) for row in differences))
    by_key = {(row["first"], row["second"], row["metric"]): row for row in differences}
    rows: list[tuple[str, ...]] = [("pair", *metrics)]
    for a, b in pairs:
        found = [by_key[a, b, metric] for metric in metrics]
        rows.append((f"{escape(a)} − {escape(b)}", *map(format_difference, found)))
        if found[0]["intervals_hold_seeds"]:
            paired = ", paired" if found[0]["paired_by_seed"] else ""
            deviations = [percent(sd) for row in found if (sd := row["seed_sd"]) is not None]
            rows.append((f"{INDENT}standard deviation of a seed{paired}", *deviations))
            rows.append((f"{INDENT}seeds needed", *(_seeds(row["seeds_needed"]) for row in found)))
    return [
        "In percentage points, both systems on the same queries and the same drawn reference images (test "
        f"images for accuracy). One star: 0 lies outside the {format_confidence(comparison)} interval. Two "
        f"stars: also after Holm's correction for the {len(differences)} comparisons of this table. Of as "
        f"many without any difference, {(1 - comparison['confidence']) * len(differences):.1f} would have a "
        f"star by chance.{_holm_limit(comparison)}",
        "",
        *_seeds_lines(comparison),
        *table(rows),
        "",
    ]


def _seeds_lines(comparison: ComparisonRecord) -> list[str]:
    """Returns the words on seeds below the table of differences; nothing if it says nothing of them."""
    hold = [row["intervals_hold_seeds"] for row in comparison["differences"]]
    if not any(hold):
        return ["The seeds' variance is not in these intervals: another training may reverse a star.", ""]
    exceptions = (
        "" if all(hold) else " The intervals of pairs without these lines do not hold it for both systems."
    )
    return [
        "Two systems with the same seeds are paired seed by seed; otherwise their seeds are drawn "
        "independently. Standard deviation of a seed: of the difference of two single runs. Seeds needed: an "
        "estimate of how many seeds of each system a difference of the size seen needs for an interval "
        "without 0, on these test images; –: no difference was seen, or its variance is not known."
        f"{exceptions}",
        "",
    ]


def _seeds(needed: int | str | None) -> str:
    return "–" if needed is None else str(needed)


def _holm_limit(comparison: ComparisonRecord) -> str:
    """Returns a sentence if no p-value of this number of samples can pass the correction."""
    lowest = 1 / (comparison["samples"] + 1)
    if lowest * len(comparison["differences"]) <= 1 - comparison["confidence"]:
        return ""
    return f" So many that {comparison['samples']:,} samples cannot give two stars: compare fewer systems."


def _query_lines(queries: Sequence[str], no_queries: str) -> list[str]:
    if not queries:
        return [f"Left out: {escape(no_queries, width=None)}", ""]
    lines = ["Drawn with a seed, half of them where the systems differ; green frames are matches.", ""]
    for number, change in enumerate(queries, start=1):
        lines += [f"![{escape(change)}](query_{number}.png)", ""]
    return lines
