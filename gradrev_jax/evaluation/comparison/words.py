"""Says in words what a comparison rests on and what its intervals hold, and formats its numbers."""

from collections.abc import Mapping

from gradrev_jax.errors import join_names
from gradrev_jax.evaluation.comparison.record import (
    ComparisonRecord,
    DifferenceRecord,
    MetricRecord,
    SystemRecord,
)
from gradrev_jax.evaluation.markdown import code, escape, percent


def describe_size(comparison: ComparisonRecord) -> str:
    """Returns the numbers of queries and images that a comparison rests on, in words."""
    return (
        f"{comparison['queries']:,} queries of {comparison['references']:,} reference images, "
        f"gallery of {comparison['gallery']:,}"
    )


def describe_seeds(comparison: ComparisonRecord, shown: Mapping[str, str]) -> str:
    """Returns whether the intervals of each system hold how much another training would change, in words.

    Args:
      comparison: the numbers.
      shown: how the name of each system is written.

    Example:
      >>> systems = [{"name": "a", "seeds": [0, 1]}, {"name": "b", "seeds": [0]}]
      >>> describe_seeds({"systems": systems}, {"a": "a", "b": "b"}).split("; ")[0]
      'How far another training would, the seeds, they say of a (2 seeds: 0, 1)'
    """
    several = [system for system in comparison["systems"] if len(system["seeds"]) > 1]
    single = [system for system in comparison["systems"] if len(system["seeds"]) == 1]
    if not several:
        return (
            "They say nothing of training again: every system has one run, and the variance of the seeds is "
            "not in them. Give the runs of several seeds one name to have it in."
        )
    counted = ", ".join(
        f"{shown[system['name']]} ({len(system['seeds'])} seeds: {', '.join(map(str, system['seeds']))})"
        for system in several
    )
    text = (
        f"How far another training would, the seeds, they say of {counted}; the numbers are means over the "
        "seeds. With few seeds their variance is hardly known, and the intervals are as much wider as "
        "Student's t is."
    )
    if not single:
        return text
    names = ", ".join(shown[system["name"]] for system in single)
    return (
        f"{text} The variance of the seeds is not in the intervals of {names}: one run tells nothing of it."
    )


def warn_of_mixed_runs(comparison: ComparisonRecord, shown: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each system whose runs differ in more, or in less, than their seeds.

    Args:
      comparison: the numbers.
      shown: how the name of each system is written.

    Example:
      >>> systems = [{"name": "a", "seeds": [0, 0]}]
      >>> fields = {"model.heads": {"a": ["shared", "pairwise"]}}
      >>> warn_of_mixed_runs({"systems": systems, "fields_that_differ": fields}, {"a": "a"})
      ['The runs of a differ in model.heads, and have one seed twice: their spread is not that of seeds.']
    """
    sentences = []
    for system in comparison["systems"]:
        name, seeds = system["name"], system["seeds"]
        differing = [
            field
            for field, values in comparison["fields_that_differ"].items()
            if field != "seed" and len(set(map(str, values.get(name, ())))) > 1
        ]
        faults = [f"differ in {join_names(differing)}"] if differing else []
        faults += ["have one seed twice"] if len(set(seeds)) < len(seeds) else []
        if faults:
            what = ", and ".join(faults)
            sentences.append(f"The runs of {shown[name]} {what}: their spread is not that of seeds.")
    return sentences


def describe_ways(system: SystemRecord) -> str:
    """Returns what the runs of a system were compared and edited by, in words, each way once.

    Example:
      >>> print(describe_ways({
      ...     "representation": ["hybrid", "features"], "normalize": ["none"] * 2, "look": [0.3, None],
      ...     "edit": ["add"] * 2, "strength": [1.0, 1.5],
      ... }))
      hybrid (lengths: none, look 0.3), `add` at strength 1; features (lengths: none), `add` at strength 1.5
    """
    fields = (system[name] for name in ("representation", "normalize", "look", "edit", "strength"))
    return "; ".join(dict.fromkeys(_way(*of_run) for of_run in zip(*fields, strict=True)))


def _way(
    representation: str | None, normalize: str | None, look: float | None, edit: str | None, strength: float
) -> str:
    """Returns one way to compare and to edit, in words, without what an older report does not say."""
    details = [] if normalize is None else [f"lengths: {escape(normalize)}"]
    details += [] if look is None else [f"look {look:g}"]
    compared = [] if representation is None else [escape(representation)]
    compared += [f"({', '.join(details)})"] if details else []
    edited = f"strength {strength:g}" if edit is None else f"{code(edit)} at strength {strength:g}"
    return ", ".join([*([" ".join(compared)] if compared else []), edited])


def describe_band(comparison: ComparisonRecord) -> str:
    """Describes the bands of the hit rate: the intervals, and what they are over.

    Example:
      >>> describe_band({"confidence": 0.95, "systems": [{"intervals_hold_seeds": True}]})
      '95 % intervals over seeds and reference images'
    """
    hold = [system["intervals_hold_seeds"] for system in comparison["systems"]]
    over = "seeds and reference images" if all(hold) else "reference images only"
    if any(hold) and not all(hold):
        over = "reference images, and over seeds where a system has several"
    return f"{format_confidence(comparison)} intervals over {over}"


def format_confidence(comparison: ComparisonRecord) -> str:
    """Returns the confidence of the intervals in percent."""
    return f"{100 * comparison['confidence']:g} %"


def format_interval(metric: MetricRecord) -> str:
    """Returns a number with its interval, in percent."""
    if metric["low"] is None or metric["high"] is None:
        return percent(metric["value"])
    return f"{percent(metric['value'])} [{percent(metric['low'])}, {percent(metric['high'])}]"


def format_difference(difference: DifferenceRecord) -> str:
    """Returns a difference with its interval: a star if 0 lies outside, two if it does after Holm, too."""
    bounds = [difference[name] for name in ("difference", "low", "high")]
    value, *interval = ["" if bound is None else _points(bound) for bound in bounds]
    between = f" [{', '.join(interval)}]" if all(interval) else ""
    stars = "*" * (difference["significant"] + difference["holm"])
    return f"{value}{between} {stars}".rstrip()


def _points(difference: float) -> str:
    """Returns a difference in percentage points with its sign; what rounds to 0 has none."""
    text = f"{100 * difference:+.2f}"
    return text if float(text) else text[1:]
