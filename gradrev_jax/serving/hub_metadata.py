"""Writes the license, tags and numbers of a model card as YAML, which a hub reads."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gradrev_jax.evaluation.short_text import visible

LIBRARY = "gradrev_jax"
TAGS = ("image-retrieval", "attribute-manipulation", "disentanglement", "fashion", "jax", "flax")
RETRIEVAL = ("hit_rate", "precision", "ndcg")
NAMED_AT = 10  # the cut-off whose numbers the hub shows


class CardChoices(NamedTuple):
    """Represents what the writer of a model card decides.

    Attributes:
      license: the identifier of the model's license on the hub.
      dataset: the identifier of the catalogue's data set on the hub; None: it has none.
      report: the name of the report whose numbers are shown; None: the run's own.
      photographs: whether a picture with photographs of the catalogue, and their names, is shown.
    """

    license: str = "unknown"
    dataset: str | None = None
    report: str | None = None
    photographs: bool = False


def yaml_lines(value: Any, indent: str = "") -> Iterator[str]:
    r"""Yields the lines of a mapping or a list in YAML; every text is quoted, whatever it holds.

    Args:
      value: a mapping, or a list, of such, of texts and of numbers; none of them empty.
      indent: the white space before each line.

    Example:
      >>> print("\n".join(yaml_lines({"tags": ["a: b"], "metrics": [{"type": "x", "value": 1.5}]})))
      tags:
      - "a: b"
      metrics:
      - type: "x"
        value: 1.5
    """
    if isinstance(value, Mapping):
        for name, each in value.items():
            if isinstance(each, Mapping | list):
                yield f"{indent}{name}:"
                yield from yaml_lines(each, indent if isinstance(each, list) else f"{indent}  ")
            else:
                yield f"{indent}{name}: {_scalar(each)}"
        return
    for each in value:
        if isinstance(each, Mapping):
            first, *rest = yaml_lines(each, f"{indent}  ")
            yield f"{indent}- {first.removeprefix(f'{indent}  ')}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(each)}"


def _scalar(value: Any) -> str:
    return json.dumps(visible(value) if isinstance(value, str) else value, ensure_ascii=False)


def hub_metadata(
    name: str, choices: CardChoices, data_format: str, metrics: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the metadata of a model card, for the hub.

    Args:
      name: the name of the model.
      choices: what its writer decided.
      data_format: the format of its catalogue.
      metrics: the content of its report's metrics.json; None: it was not evaluated.
    """
    made: dict[str, Any] = {
        "license": choices.license,
        "library_name": LIBRARY,
        "tags": list(TAGS),
    }
    if choices.dataset:
        made["datasets"] = [choices.dataset]
    if metrics is None:
        return made
    k = named_cut_off(metrics)
    accuracy = metrics["attribute_accuracy"]["macro"]
    values = [(name, f"{name}@{k}", metrics[name][k]) for name in RETRIEVAL]
    values.append(("accuracy", "attribute accuracy (mean over attributes)", accuracy))
    made["metrics"] = [*RETRIEVAL, "accuracy"]
    dataset = choices.dataset or f"a catalogue of the format {data_format}"
    made["model-index"] = [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": "image-retrieval", "name": "Retrieval with attribute manipulation"},
                    "dataset": {
                        "type": choices.dataset or data_format,
                        "name": dataset,
                    },
                    "metrics": [
                        {"type": kind, "name": name, "value": round(100 * value, 2)}
                        for kind, name, value in values
                    ],
                }
            ],
        }
    ]
    return made


def named_cut_off(metrics: Mapping[str, Any]) -> str:
    """Returns the cut-off whose numbers stand for all: 10, or else the largest below it, or the smallest.

    Example:
      >>> named_cut_off({"hit_rate": {"1": 0.1, "5": 0.4, "20": 0.6}})
      '5'
    """
    ks = sorted(map(int, metrics["hit_rate"]))
    return str(max((k for k in ks if k <= NAMED_AT), default=ks[0]))
