"""Describes in words what kind of system a config trains, for tables and model cards."""

from collections.abc import Mapping
from typing import Any

from gradrev_jax.runs.fields.table import FIELDS
from gradrev_jax.systems.objective import MEMORY
from gradrev_jax.systems.registry import SYSTEMS

_SYSTEM = "model.system"
_OPTIONS = {  # field -> words, if the field is set
    "model.unit_features": "unit features",
    "train.compactness_weight": "compact classes",
    "train.conditional_dependence_weight": "conditional independence",
    "train.decorrelate": "decorrelated labels",
}


def describe_config(config: Mapping[str, Any], *, prototypes_alone: bool = False) -> str:
    """Describes the kind of a system in words: its name, unless it is the paper's, and its parts.

    Args:
      config: the fields of its config by their dotted names.
      prototypes_alone: whether its memory is not used.

    Example:
      >>> describe_config({"model.heads": "shared", "reversal.weighting": "balanced", "stages": ["encoder"]})
      'N classifiers, balanced reversal'
    """
    name = config.get(_SYSTEM, FIELDS[_SYSTEM].default)
    words = [] if name == FIELDS[_SYSTEM].default else [name]
    weighting = config["reversal.weighting"]
    by_whom = " by adversaries" if config.get("reversal.adversaries") else ""
    has_triplets = config.get("train.attribute_triplet_weight") or config.get("train.label_triplet_weight")
    of_field = {
        "model.heads": "N x N classifiers" if config["model.heads"] == "pairwise" else "N classifiers",
        "reversal.weighting": "no reversal" if weighting == "off" else f"{weighting} reversal{by_whom}",
        "train.label_triplet_weight": "triplet losses" if has_triplets else "",
        **{field: word for field, word in _OPTIONS.items() if config.get(field)},
    }
    system = SYSTEMS.get(name)
    left_out = () if system is None else system.without
    words += [word for field, word in of_field.items() if word and field not in left_out]
    if MEMORY in config["stages"] and not prototypes_alone:
        learns = system is not None and system.second_stage is not None and system.second_stage.make_edit
        words.append("edit learned" if learns else "memory fine-tuned")
    return ", ".join(words)
