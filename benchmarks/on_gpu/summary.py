"""Summarises the results in Markdown that fits into the end of a log."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.on_gpu.running import Outcome
from benchmarks.side_by_side import tables
from benchmarks.side_by_side.cases import MIXED

LONGEST = 11_500  # in characters; the end of a log has at most 12,000
KERNELS = 6  # the number of kernels listed per stage


class Target(NamedTuple):
    """A measured figure and its target.

    Attributes:
      what: the description of the figure.
      figure: the measured figure.
      asked: the bound that the figure should meet.
      at_least: whether the figure should be at least the bound; if not, at most.
      form: the format of both numbers.
    """

    what: str
    figure: float
    asked: float
    at_least: bool
    form: str

    @property
    def is_met(self) -> bool:
        """Returns whether the figure meets the bound."""
        return self.figure >= self.asked if self.at_least else self.figure <= self.asked


def read_results(out: pathlib.Path, machine: str) -> dict[str, dict[str, Any]]:
    """Returns a machine's results by the first part of their file names; skips files that cannot be read.

    Args:
      out: the folder of the results.
      machine: the name of the machine in file names, which may have underscores.
    """
    results = {}
    for path in sorted(out.glob("*.json")):
        if not path.stem.endswith(f"_{machine}"):
            continue
        try:
            results[path.stem.removesuffix(f"_{machine}")] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return results


def targets(results: dict[str, dict[str, Any]]) -> list[Target]:
    """Returns the figures that have targets, as far as they were measured.

    Args:
      results: the results, from ``read_results``.
    """
    found = []
    for case in results.get("compare", {}).get("cases", []):
        ours, theirs = (case["results"].get(name) for name in MIXED)
        if case["kind"] == "train_step" and ours and theirs:
            ratio = ours["units_per_second"] / theirs["units_per_second"]
            what = f"bfloat16 train step, batch {case['sizes']['batch']}, times torch's {MIXED[1][6:]}"
            found.append(Target(what, ratio, 1.2, True, "{:.2f}"))
    for name, stage in results.get("profile", {}).get("stages", {}).items():
        if "both" in stage["of_matrix_rate"]:
            what = f"convolutions and products of a step of the {name} stage, of the matrix rate"
            found.append(Target(what, stage["of_matrix_rate"]["both"], 0.45, True, "{:.0%}"))
        found.append(Target(f"waiting for input, {name} stage", stage["input_wait"], 0.02, False, "{:.2%}"))
    search = results.get("search", {})
    if "evaluation" in search:
        seconds = search["evaluation"]["gradrev_jax"]["median_seconds"]
        queries = search["evaluation"]["sizes"]["queries"]
        found.append(
            Target(f"search of {queries:,} queries, index included, s", seconds, 0.3, False, "{:.3f}")
        )
    for case in search.get("one_more_manipulation", []):
        if "gradrev_jax" in case:
            what = f"one more manipulation, {case['rows']:,} x {case['width']:,}, ms"
            found.append(Target(what, 1e3 * case["gradrev_jax"]["median_seconds"], 1.0, False, "{:.3f}"))
    paper = results.get("paper_scale", {})
    if len(paper.get("parts", {})) == 6:
        asked = 14.0 if "h100" in str(paper.get("devices")).lower() else 10.0
        how = "measured" if paper["measured_whole"] else "partly extrapolated"
        what = f"the paper's whole training, {how}, minutes"
        found.append(Target(what, paper["seconds"] / 60, asked, False, "{:.1f}"))
    return found


def targets_table(found: Sequence[Target]) -> str:
    """Returns a table of the figures and their targets."""
    lines = ["| figure | measured | asked | met |", "| --- | ---: | ---: | --- |"]
    for target in found:
        asked = ("at least " if target.at_least else "at most ") + target.form.format(target.asked)
        met = "yes" if target.is_met else "no"
        lines.append(f"| {target.what} | {target.form.format(target.figure)} | {asked} | {met} |")
    return "\n".join(lines)


def summarise(out: pathlib.Path, outcomes: Sequence[Outcome], *, machine: str, dry_run: bool) -> str:
    """Returns the summary of a run: first the figures, then the output of failed steps.

    Args:
      out: the folder of the results.
      outcomes: the outcomes of the steps so far.
      machine: the name of the machine in file names; results of others are named and not shown.
      dry_run: whether the sizes were tiny.
    """
    results = read_results(out, machine)
    parts = []
    if dry_run:
        parts.append("A dry run at tiny sizes: the figures below say nothing about speed.")
    lines = ["| step | how it ended | s |", "| --- | --- | ---: |"]
    for outcome in outcomes:
        status = f"{outcome.status}: {outcome.why}" if outcome.why else outcome.status
        lines.append(f"| {outcome.name} | {status[:300].replace('|', '/')} | {outcome.seconds:.0f} |")
    parts.append("\n".join(lines))
    if others := sorted(path.name for path in out.glob("*.json") if not path.stem.endswith(f"_{machine}")):
        parts.append(f"not in the tables, which are of {machine} alone: {', '.join(others)}")
    tests = next((outcome for outcome in outcomes if outcome.name == "tests"), None)
    if tests and tests.printed:
        parts.append(f"tests: {tests.printed.splitlines()[-1]}")
    if "card" in results:
        parts.append(tables.card_table(results["card"]))
    if found := targets(results):
        parts.append(targets_table(found))
    if cases := results.get("compare", {}).get("cases"):
        parts += [tables.speeds(cases), tables.costs(cases)]
        parts += [f"skipped: {line}" for line in results["compare"]["skipped"]]
    if results.get("profile", {}).get("stages"):
        profile = results["profile"]
        parts += [tables.profile_table(profile), tables.kernels_table(profile, KERNELS)]
    if results.get("profile_systems", {}).get("stages"):
        parts.append(tables.profile_table(results["profile_systems"]))
    if "search" in results:
        parts.append(tables.search_table(results["search"]))
    if results.get("paper_scale", {}).get("seconds") is not None:
        parts.append(tables.paper_table(results["paper_scale"]))
    parts += [
        f"{outcome.name} {outcome.status}; it printed last:\n{outcome.printed}"
        for outcome in outcomes
        if outcome.status != "ok" and outcome.printed
    ]
    return shortened("\n\n".join(parts), LONGEST)


def shortened(text: str, most: int) -> str:
    """Cuts a text off with a note if it is too long.

    Example:
      >>> shortened("a short text", 100), shortened("12345678901234567890", 17)
      ('a short text', '12345 [cut short]')
    """
    note = " [cut short]"
    return text if len(text) <= most else text[: most - len(note)] + note
