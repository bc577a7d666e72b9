"""Writes the card of a model to share: what it is, what it was measured to do, and where it ends."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gradrev_jax.data.catalogue import PARTS
from gradrev_jax.evaluation.markdown import escape, percent, table
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.evaluation.report_tables import accuracy_table
from gradrev_jax.evaluation.report_texts import describe_way
from gradrev_jax.evaluation.summary import weights_by_name
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION
from gradrev_jax.models.interface import Encoder
from gradrev_jax.runs import workdir
from gradrev_jax.runs.config_words import describe_config
from gradrev_jax.serving.hub_metadata import (
    LIBRARY,
    RETRIEVAL,
    CardChoices,
    hub_metadata,
    named_cut_off,
    yaml_lines,
)
from gradrev_jax.serving.space import SearchSpace
from gradrev_jax.systems.registry import SYSTEMS

CAPTIONS = {
    "hit_rate.png": "Queries with a match among K, with the change asked for and without it.",
    "cross_accuracy.png": "The accuracy of each classifier (column) on the feature of each attribute (row).",
    "retrieved.png": "The query, the change asked for, and what is nearest; green frames are matches.",
}


class Card(NamedTuple):
    """Represents what a model card is written from.

    Attributes:
      name: the name of the model.
      run: the run that it is of.
      space: how it compares and edits.
      config: its config, without the places of a machine.
      metrics: the content of its report's metrics.json; None: it was not evaluated as it is exported.
      pictures: the names of the pictures beside the card.
      choices: what its writer decided.
    """

    name: str
    run: OpenedRun
    space: SearchSpace
    config: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    pictures: Sequence[str]
    choices: CardChoices


def write_card(path: pathlib.Path, card: Card) -> None:
    """Writes a model card in the form that the hub reads: metadata, and Markdown.

    Args:
      path: the file.
      card: what it is written from.
    """
    lines = [
        "---",
        *yaml_lines(hub_metadata(card.name, card.choices, card.config["data"]["format"], card.metrics)),
        "---",
        "",
        f"# {escape(card.name)}",
        "",
        *_introduction(card),
        *_use(card),
        *_attributes(card),
        *_evaluation(card),
        *_pictures(card),
        *_data(card),
        *_limits(card),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _introduction(card: Card) -> list[str]:
    config, run, space, way = card.config, card.run, card.space, card.space.way
    model = config["model"]
    inputs = (
        "embeddings of another network"
        if model["backbone"] == "embeddings"
        else f"{model['backbone']}{', frozen' if model['freeze_backbone'] else ''}, on images of "
        f"{config['data']['image_size']} x {config['data']['image_size']} pixels"
    )
    return [
        "Finds garments like a given one in which some attributes are different: this, but red. One network "
        f"describes an image by {_describe_features(run.encoder)}. Trained with `{LIBRARY}`. System: "
        f"{SYSTEMS[model['system']].meaning} ({describe_config(workdir.flat_fields(config))}). Input: "
        f"{inputs}. Checkpoint of step {run.step:,}.",
        "",
        describe_way(
            space.representation,
            look=space.look,
            normalize=way.normalize,
            edit=space.edit,
            strength=way.strength,
            weights=weights_by_name(way.weights, space.schema),
        ),
        "",
    ]


def _describe_features(encoder: Encoder) -> str:
    """Returns in words the features that a model declares."""
    blocks, size = encoder.blocks, f"{encoder.feature_dim:,} numbers"
    if blocks.are_own and blocks.count == len(blocks.of_attribute):
        return (
            f"a feature of {size} for each attribute, so that an attribute can be changed and the others kept"
        )
    if blocks.count == 1:
        return f"one feature of {size}, which all attributes are read from"
    return f"{blocks.count:,} features of {size}, of which each attribute is read from one"


def _use(card: Card) -> list[str]:
    drawn = card.config["data"]["format"] == "garments"
    data = "" if drawn else ', data={"root": "FOLDER_OF_YOUR_IMAGES"}'
    return [
        "## Use",
        "",
        "```python",
        "from gradrev_jax import Retriever",
        "",
        f'shop = Retriever.open("FOLDER_OF_THIS_MODEL"{data})  # or "hub:OWNER/NAME"',
        'found = shop.photo("photograph.jpg").search(k=20)',
        "```",
        "",
        "Opening it executes nothing of this folder: the parameters are in `model.safetensors`, the rest is "
        "JSON. It has no images; it is opened over a catalogue of yours, which it encodes once.",
        "",
    ]


def _attributes(card: Card) -> list[str]:
    schema = card.space.schema
    rows = [("attribute", "values"), *zip(map(escape, schema.names), map(str, schema.sizes), strict=True)]
    return ["## Attributes", "", *table(rows), ""]


def _evaluation(card: Card) -> list[str]:
    """Returns the section of the measurements; or that there are none."""
    if (metrics := card.metrics) is None:
        return ["## Evaluation", "", "This model was not evaluated in the form in which it is shared.", ""]
    intervals = metrics["intervals"]
    header = ("K", *RETRIEVAL, "hit_rate without the change")
    unchanged = metrics["baselines"][NO_MANIPULATION]["hit_rate"]
    rows = [
        (k, *(_bounded(metrics[name][k], intervals[name][k]) for name in RETRIEVAL), percent(unchanged[k]))
        for k in metrics["hit_rate"]
    ]
    k = named_cut_off(metrics)
    baselines = [
        (escape(name.replace("_", " ")), percent(by_metric["hit_rate"][k]))
        for name, by_metric in metrics["baselines"].items()
    ]
    accuracy, majority = metrics["attribute_accuracy"], metrics["majority_accuracy"]
    means = [
        (mean, _bounded(accuracy[mean], intervals["attribute_accuracy"][mean]), percent(majority[mean]))
        for mean in ("macro", "micro")
    ]
    return [
        "## Evaluation",
        "",
        f"{metrics['queries']:,} queries over {metrics['gallery']:,} test images, in percent, with "
        f"{100 * intervals['confidence']:g} % bootstrap intervals that resample images. They hold the "
        "variance of the images alone, not that of training again. A match has exactly the labels asked for. "
        "hit_rate: queries with a match among K; precision: the share of matches; ndcg: graded by the labels "
        "that are right.",
        "",
        *table([header, *rows]),
        "",
        f"hit_rate@{k} of other ways to answer the same queries:",
        "",
        *table([("baseline", f"hit_rate@{k}"), *baselines]),
        "",
        "Accuracy of the classifiers on the test images, beside that of always naming the commonest value:",
        "",
        *accuracy_table(metrics, card.space.schema.names, majority_name="commonest value", means=means),
    ]


def _pictures(card: Card) -> list[str]:
    return [
        line for name in card.pictures for line in (CAPTIONS[name], "", f"![{CAPTIONS[name]}]({name})", "")
    ]


def _data(card: Card) -> list[str]:
    catalogue, data = card.run.catalogue, card.config["data"]
    counts = ", ".join(f"{len(catalogue.parts[part]):,} {part}" for part in PARTS)
    labels = catalogue.part_labels(*PARTS)
    drawn = " of drawn garments, which the package brings" if data["format"] == "garments" else ""
    missing = "a class of its own" if data["missing"] == "value" else "ignored"
    labelled = percent(float((labels >= 0).mean())) if labels.size else "0"
    return [
        "## Data",
        "",
        f"Trained on a catalogue{drawn} (format `{data['format']}`): {counts} images, {labelled} % of whose "
        f"labels are known. What is not labelled is {missing}. The images are not part of this model.",
        "",
    ]


def _limits(card: Card) -> list[str]:
    return [
        "## Intended use and limits",
        "",
        "For searching catalogues like the one that it was trained on, and for research. It knows the "
        "attributes above and no others, and finds a value for any image, also for one that shows nothing of "
        "the kind. On photographs of another kind (other lighting, worn instead of laid out, other countries "
        "or years) it was not measured. Labels come from the catalogue, with its errors and its view of what "
        "a garment is and whom it is for; do not use it to judge people in photographs.",
        "",
        f"License: {escape(card.choices.license)}. Rights in the training images may bind its use as well.",
        "",
    ]


def _bounded(value: float, bounds: Sequence[float | None]) -> str:
    low, high = bounds
    if low is None or high is None:
        return percent(value)
    return f"{percent(value)} ({percent(low)} to {percent(high)})"
