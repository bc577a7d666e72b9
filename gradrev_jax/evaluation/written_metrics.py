"""Reads the metrics of a report in a run's folder: checked, because the file may be damaged or old."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.scores import METRICS_FILE
from gradrev_jax.runs import workdir

NUMBER = (int, float)
MAYBE = (int, float, type(None))  # a mean of nothing is null
NO_MANIPULATION = "no_manipulation"  # the baseline of the query images' own neighbours
EACH = "*"  # stands for every name
MEANS = {"macro": MAYBE, "micro": MAYBE}
INTERVAL = [MAYBE, MAYBE]
ALWAYS: Mapping[str, Any] = {
    "stage": (str,),
    "step": (int,),
    "strength": NUMBER,
    "protocol": {},
    "attribute_accuracy": MEANS,
    "majority_accuracy": MEANS,
    "cross_accuracy": {"matrix": [[MAYBE]]},
}
LEAKAGE = {"mean": MAYBE, "conditional_mean": MAYBE}
OPTIONAL: Mapping[str, Any] = {
    **dict.fromkeys(("representation", "normalize", "edit"), (str,)),
    "look": NUMBER,
    "weights": {EACH: NUMBER},
    "leakage": {"own_accuracy": MAYBE, **LEAKAGE, "mlp": LEAKAGE},
}


def read_metrics(
    report: pathlib.Path, names: Sequence[str], *, ks: Sequence[int] | None = None, whole: bool = False
) -> dict[str, Any]:
    """Reads the metrics of a report.

    Args:
      report: the folder of the report.
      names: the retrieval metrics that it must have.
      ks: the cut-offs that each must have; None: those of the first.
      whole: whether it must have all that a report shows, and not only what runs are compared by.

    Raises:
      WorkdirError: the file is missing or damaged, or lacks something, as one of another version may.
    """
    path = report / METRICS_FILE
    metrics = workdir.read_json(path)
    cut_offs = [k for k in _keys(metrics, names[0]) if k.isdecimal()] if ks is None else list(map(str, ks))
    by_k = dict.fromkeys(cut_offs, NUMBER)
    shape: dict[str, Any] = {
        **ALWAYS,
        **dict.fromkeys(names, by_k),
        "baselines": {EACH: {names[0]: by_k}, NO_MANIPULATION: dict.fromkeys(names, by_k)},
    }
    if whole:
        shape |= {"gallery": (int,), "queries": (int,)}
        attributes = dict.fromkeys(_keys(metrics, "attribute_accuracy", "per_attribute"), MAYBE)
        by_attribute = {**MEANS, "per_attribute": attributes}
        shape |= dict.fromkeys(("attribute_accuracy", "majority_accuracy"), by_attribute)
        shape["intervals"] = dict.fromkeys(names, dict.fromkeys(cut_offs, INTERVAL)) | {
            "confidence": NUMBER,
            "attribute_accuracy": dict.fromkeys(MEANS, INTERVAL),
        }
    if isinstance(metrics, dict):
        shape |= {name: OPTIONAL[name] for name in OPTIONAL if metrics.get(name) is not None}
    if (place := misfit(metrics, shape)) is not None or not cut_offs:
        raise WorkdirError(
            f"{path} is damaged or of another version: {place or names[0] or 'all of it'} is not what "
            f"evaluations write; evaluate again: python evaluate.py --workdir={report.parent}"
        )
    return dict(metrics)


def _keys(content: Any, *place: str) -> list[str]:
    """Returns the names in a part of a document; none where it is not there."""
    for name in place:
        content = content.get(name) if isinstance(content, dict) else None
    return list(content) if isinstance(content, dict) else []


def misfit(content: Any, shape: Any, place: str = "") -> str | None:
    """Returns the dotted place of the first part of a JSON document that has not the shape it must have.

    Args:
      content: the document, or a part of it.
      shape: the types that it may have; a list of the shape that every entry has, or of those of as many
        entries as there must be; or a mapping of the shapes of its values by their names, where ``*`` stands
        for every name. Numbers must be finite, and true is none.
      place: the place of the part.

    Example:
      >>> misfit({"a": {"1": 0.5, "2": None}}, {"a": {"*": (float,)}}), misfit([1, 2], [(int,)])
      ('a.2', None)
    """
    if isinstance(shape, tuple):
        fits = isinstance(content, shape) and not isinstance(content, bool)
        return None if fits and not (isinstance(content, float) and not math.isfinite(content)) else place
    if isinstance(shape, list):
        if not isinstance(content, list) or len(shape) not in (1, len(content)):
            return place
        of_entries = shape * len(content) if len(shape) == 1 else shape
        parts = [
            (str(i), entry, of_entry)
            for i, (entry, of_entry) in enumerate(zip(content, of_entries, strict=True))
        ]
    else:
        if not isinstance(content, dict):
            return place
        of_any = dict.fromkeys(content, shape[EACH]) if EACH in shape else {}
        wanted = {name: of_entry for name, of_entry in shape.items() if name != EACH}
        shapes = [*of_any.items(), *wanted.items()]
        parts = [(name, content.get(name, ...), of_entry) for name, of_entry in shapes]
    faults = (misfit(entry, of_entry, f"{place}.{name}".lstrip(".")) for name, entry, of_entry in parts)
    return next((fault for fault in faults if fault is not None), None)
