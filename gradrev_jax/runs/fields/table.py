"""All config fields under their dotted names, and what is derived from them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from gradrev_jax.runs.fields.data import DATA_FIELDS
from gradrev_jax.runs.fields.general import MODEL_FIELDS, REVERSAL_FIELDS, RUN_FIELDS
from gradrev_jax.runs.fields.protocol import PROTOCOL_FIELDS
from gradrev_jax.runs.fields.training import MEMORY_FIELDS, MEMORY_WEIGHTS_FIELDS, TRAIN_FIELDS
from gradrev_jax.runs.formats import FORMATS
from gradrev_jax.systems.field import SAME_AS_DEFAULT, Field
from gradrev_jax.systems.objective import MEMORY
from gradrev_jax.systems.registry import SYSTEMS

SECTIONS: dict[str, Mapping[str, Field]] = {
    "": RUN_FIELDS,
    "data": DATA_FIELDS,
    "model": MODEL_FIELDS,
    "reversal": REVERSAL_FIELDS,
    "train": TRAIN_FIELDS,
    "memory": MEMORY_FIELDS,
    "memory.weights": MEMORY_WEIGHTS_FIELDS,
    **{name: system.fields for name, system in SYSTEMS.items() if system.fields},
    "protocol": {
        # A run may be evaluated by another protocol; what chose its checkpoints is part of the run.
        name: dataclasses.replace(field, resumable=name != "select_on_test")
        for name, field in PROTOCOL_FIELDS.items()
    },
}

FIELDS: dict[str, Field] = {
    f"{section}.{name}" if section else name: field
    for section, fields in SECTIONS.items()
    for name, field in fields.items()
}

# Fields of one system or format: a run without them was of another, or of a version that did not have it.
_OPTIONAL = {f"{name}.{field}" for name, system in SYSTEMS.items() for field in system.fields} | {
    f"data.{field}" for each in FORMATS.values() for field in each.fields
}

EARLIER_VALUES: dict[str, Any] = {
    name: field.default if field.earlier is SAME_AS_DEFAULT else field.earlier
    for name, field in FIELDS.items()
    if field.earlier is not SAME_AS_DEFAULT or name in _OPTIONAL
}

# What says how long a stage is, and a field that makes a part of it something else.
LENGTHS = ("train.epochs", "train.max_steps", "memory.epochs", "memory.max_steps")
LOCALIZATION = "fsn.localization_share"

# Section -> new name -> former name.
RENAMED: dict[str, dict[str, str]] = {
    section: {name: field.formerly for name, field in fields.items() if field.formerly is not None}
    for section, fields in SECTIONS.items()
}


def default_config() -> ConfigDict:
    """Creates a config of all fields with their defaults; it is locked, so that no other field can be set.

    Example:
      >>> default_config().train.batch_size
      128
    """
    config = ConfigDict()
    for name, field in FIELDS.items():
        *path, last = name.split(".")
        section = config
        for part in path:
            if part not in section:
                section[part] = ConfigDict()
            section = section[part]
        section[last] = field.default if field.kind is None else placeholder(field.kind)
    return config.lock()


def names_with(attribute: str) -> tuple[str, ...]:
    """Returns the names of the fields for which a flag of ``Field`` is set, as ``same_test``.

    Example:
      >>> names_with("movable")[:2]
      ('data.cache_dir', 'data.cache_limit')
    """
    return tuple(name for name, field in FIELDS.items() if getattr(field, attribute))


def is_resumable(name: str, run: Mapping[str, Any]) -> bool:
    """Returns whether a run may go on with another value of a field.

    Args:
      name: the dotted name of the field.
      run: the fields of the run so far, by dotted name.

    Example:
      >>> is_resumable("train.epochs", {"reversal.weighting": "balanced", "stages": ("encoder",)})
      True
    """
    if name.startswith("memory.") and MEMORY not in run.get("stages", ()):
        return True  # that stage is not part of the run yet
    if name in LENGTHS and run.get("train.schedule") == "cosine":
        return False  # the learning rate counts towards the last step
    if name == "train.epochs" and (run.get("reversal.weighting") == "schedule" or run.get(LOCALIZATION)):
        return False  # the ramp of w_rev counts towards the last epoch, as FashionSearchNet's phases do
    return name in FIELDS and FIELDS[name].resumable


def is_descriptive(name: str) -> bool:
    """Returns whether runs that differ in a field are different systems; so are fields of other versions.

    Example:
      >>> is_descriptive("train.epochs"), is_descriptive("data.cache_dir")
      (True, False)
    """
    return name not in FIELDS or FIELDS[name].descriptive
