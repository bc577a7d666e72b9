"""Writes the report of a run: its numbers as JSON, tables and pictures."""

import json
import pathlib
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from gradrev_jax.errors import join_names
from gradrev_jax.evaluation.attention_figure import AttentionExample, attention_grid
from gradrev_jax.evaluation.figures import cross_accuracy_heat_map, hit_rate_curve
from gradrev_jax.evaluation.fonts import missing_note
from gradrev_jax.evaluation.leakage_figure import leakage_heat_map
from gradrev_jax.evaluation.leakage_scores import is_measured
from gradrev_jax.evaluation.markdown import escape, percent, table
from gradrev_jax.evaluation.report_folder import replace_folder, write_figure
from gradrev_jax.evaluation.report_tables import (
    accuracy_table,
    leakage_rows,
    mean_accuracy_rows,
    retrieval_rows,
)
from gradrev_jax.evaluation.report_texts import (
    ATTENTION,
    BASELINES,
    CROSS_ACCURACY,
    NOT_MEASURED,
    describe_leakage,
    describe_way,
)
from gradrev_jax.evaluation.retrieval_figure import RetrievalExample, retrieval_grid
from gradrev_jax.evaluation.scores import METRICS_FILE, SCORES_FILE, Scores, write_scores
from gradrev_jax.evaluation.training_figure import training_curves
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION


class Examples(NamedTuple):
    """Represents the queries and images that a report has pictures of.

    Attributes:
      successes: queries with a match among the neighbours shown.
      failures: queries without a match among them.
      attention: where the model looks in some images; empty if it does not tell.
    """

    successes: Sequence[RetrievalExample]
    failures: Sequence[RetrievalExample]
    attention: Sequence[AttentionExample] = ()


def write_report(
    directory: pathlib.Path,
    *,
    metrics: Mapping[str, Any],
    scores: Scores,
    wait_for_all: Callable[[], Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    examples: Examples,
    title: str,
) -> None:
    """Writes metrics.json, queries.npz, report.md and pictures in place of an earlier report.

    The leakage, and all baselines but "no_manipulation", take longest. They are waited for after the other
    pictures are drawn, so that they can be computed meanwhile. Characters that no installed font has are
    named in report.md and on stderr.

    Args:
      directory: the report's folder, which is replaced as a whole when the new report is complete.
      metrics: the content of metrics.json, without the leakage and these baselines.
      scores: the content of queries.npz.
      wait_for_all: the function that waits for these, and returns the whole content; the leakage is None if
        none was measured.
      history: the records of metrics.jsonl.
      examples: the queries and images that are drawn; a picture without any example is left out.
      title: the title of the report.

    Raises:
      WorkdirError: the folder cannot be written to.
    """
    figures = {
        "hit_rate.png": hit_rate_curve(
            metrics["hit_rate"], metrics["baselines"][NO_MANIPULATION]["hit_rate"]
        ),
        "cross_accuracy.png": cross_accuracy_heat_map(
            metrics["cross_accuracy"]["matrix"], metrics["cross_accuracy"]["attributes"]
        ),
    }
    if examples.successes:
        figures["retrieved.png"] = retrieval_grid(examples.successes)
    if examples.failures:
        figures["failures.png"] = retrieval_grid(examples.failures)
    if examples.attention:
        names = metrics["cross_accuracy"]["attributes"]
        figures["attention.png"] = attention_grid(examples.attention, names)
    if history:
        figures["training.png"] = training_curves(history)
    with replace_folder(directory) as folder:
        write_scores(folder / SCORES_FILE, scores)
        for name, figure in figures.items():
            write_figure(folder / name, figure)
        metrics = wait_for_all()
        if metrics["leakage"] and is_measured(metrics["leakage"]):
            figures["leakage.png"] = leakage_heat_map(metrics["leakage"])
            write_figure(folder / "leakage.png", figures["leakage.png"])
        note = missing_note(figures.values())
        (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        (folder / "report.md").write_text(_markdown(metrics, figures, title, note), encoding="utf-8")
    if note:
        print(f"note: {note}", file=sys.stderr)


def result_table(metrics: Mapping[str, Any]) -> str:
    """Returns the result for a terminal: retrieval by K beside the baseline, and accuracies, in percent.

    Example:
      >>> by_k = dict.fromkeys(("hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others"), {"10": 0.5})
      >>> accuracy = {"macro": 0.75, "micro": 0.7, "per_attribute": {"color": 0.75}}
      >>> print(result_table({
      ...     "gallery": 20, "queries": 40, "step": 100, **by_k, "attribute_accuracy": accuracy,
      ...     "majority_accuracy": accuracy, "baselines": {"no_manipulation": by_k}, "leakage": None,
      ... }))
      40 queries, gallery of 20 images, checkpoint of step 100
      <BLANKLINE>
      %                         @10
      hit_rate                50.00
        no manipulation       50.00
      precision               50.00
        no manipulation       50.00
      ndcg                    50.00
        no manipulation       50.00
      ndcg_target             50.00
        no manipulation       50.00
      ndcg_others             50.00
        no manipulation       50.00
      <BLANKLINE>
      attribute accuracy: macro 75.00, micro 70.00 (majority class: macro 75.00, micro 70.00)
    """
    header, *rows = retrieval_rows(metrics)
    lines = [
        f"{row[0].replace('&nbsp;', ' '):20}" + "".join(f"{cell:>9}" for cell in row[1:])
        for row in (header, *rows)
    ]
    accuracy, majority = metrics["attribute_accuracy"], metrics["majority_accuracy"]
    return "\n".join(
        [
            _size(metrics),
            "",
            *lines,
            "",
            f"attribute accuracy: {_macro_micro(accuracy)} (majority class: {_macro_micro(majority)})",
            *([f"leakage: {_leakage_means(leakage)}"] if (leakage := metrics["leakage"]) else []),
        ]
    )


def _markdown(metrics: Mapping[str, Any], figures: Mapping[str, Figure], title: str, note: str | None) -> str:
    """Returns the text of report.md; a picture that was not drawn is left out with its heading."""
    return "\n".join(
        [
            *_introduction(metrics, title, note),
            *_retrieval_section(metrics, figures),
            *_accuracy_section(metrics, figures),
            *_picture(figures, "attention.png", "Attention", ATTENTION),
            *_picture(figures, "training.png", "Training", "From metrics.jsonl."),
        ]
    )


def _introduction(metrics: Mapping[str, Any], title: str, note: str | None) -> list[str]:
    """Returns the title, the size of the evaluation, and what to know before reading its numbers."""
    lines = [
        f"# {escape(title)}",
        "",
        f"{_size(metrics)}. All numbers are percentages; every one is in [metrics.json](metrics.json).",
        "",
        describe_way(
            metrics["representation"],
            **{name: metrics[name] for name in ("look", "normalize", "edit", "strength", "weights")},
        ),
        "",
    ]
    if note:
        lines += [escape(note, width=None), ""]
    if absent := metrics["prototypes_without_images"]:
        names = join_names([escape(value) for value in absent])
        lines += [f"**No training image has {names}: these prototypes are zero.**", ""]
    if changes := metrics["catalogue_changes"]:
        listed = [f"- {escape(change, width=None)}" for change in changes]
        lines += ["The catalogue, beside that of the training:", "", *listed, ""]
    return lines


def _retrieval_section(metrics: Mapping[str, Any], figures: Container[str]) -> list[str]:
    return [
        "## Retrieval",
        "",
        "hit_rate@K: queries with at least one image among K that has exactly the labels asked for. "
        "precision@K: the share of such images. ndcg@K: graded by the labels that are right; "
        "of the changed attribute (target) and of those kept (others). "
        + " ".join(text for name, text in BASELINES.items() if name in metrics["baselines"]),
        "",
        *table(retrieval_rows(metrics)),
        "",
        *_picture(
            figures, "hit_rate.png", "Hit rate", "The gap between the curves is what manipulating adds."
        ),
        *_picture(
            figures,
            "retrieved.png",
            "Retrieved",
            "The query, the change asked for, and its five nearest; green frames are matches.",
        ),
        *_picture(
            figures,
            "failures.png",
            "Failures",
            "No match among the five; below each, what is not as asked for.",
        ),
    ]


def _accuracy_section(metrics: Mapping[str, Any], figures: Container[str]) -> list[str]:
    return [
        "## Attribute accuracy",
        "",
        *accuracy_table(
            metrics,
            metrics["cross_accuracy"]["attributes"],
            majority_name="majority class",
            means=mean_accuracy_rows(metrics),
        ),
        *_picture(figures, "cross_accuracy.png", "Cross accuracy", CROSS_ACCURACY),
        *_leakage_section(metrics, figures),
    ]


def _leakage_section(metrics: Mapping[str, Any], figures: Container[str]) -> list[str]:
    if (leakage := metrics["leakage"]) is None:
        return []
    if not is_measured(leakage):
        return ["## Leakage", "", f"{NOT_MEASURED.capitalize()}.", ""]
    return [
        *_picture(figures, "leakage.png", "Leakage", describe_leakage(metrics["representation"])),
        "Own attribute: the accuracy of such classifiers on the attribute of the row itself. Below the "
        "probes stand, by linear classifiers: the posteriors of the trained ones; the backbone's output "
        "projected at random, and onto as many principal components; and other attributes' labels permuted "
        "among images of one own label, which tell nothing.",
        "",
        *table(leakage_rows(leakage)),
        "",
    ]


def _picture(figures: Container[str], name: str, heading: str, text: str) -> list[str]:
    """Returns the section of one picture; nothing if it was not drawn."""
    return [f"## {heading}", "", text, "", f"![{heading}]({name})", ""] if name in figures else []


def _size(metrics: Mapping[str, Any]) -> str:
    return (
        f"{metrics['queries']:,} queries, gallery of {metrics['gallery']:,} images, "
        f"checkpoint of step {metrics['step']:,}"
    )


def _macro_micro(accuracy: Mapping[str, Any]) -> str:
    return f"macro {percent(accuracy['macro'])}, micro {percent(accuracy['micro'])}"


def _leakage_means(leakage: Mapping[str, Any]) -> str:
    """Returns the mean leakage by the linear and by the small MLP probes."""
    words = [
        f"{name} {percent(means['mean'])}, beyond the own label {percent(means['conditional_mean'])}"
        for name, means in (("linear", leakage), ("MLP", leakage["mlp"]))
        if means["mean"] is not None and means["conditional_mean"] is not None
    ]
    return "; ".join(words) or NOT_MEASURED
