"""Makes the config of a shared model portable, and checks the one of a stranger's model."""

import pathlib
import re
import reprlib
import sys
from collections.abc import Callable, Mapping, Set
from typing import Any

from gradrev_jax.errors import ConfigError, WorkdirError, did_you_mean, join_lines
from gradrev_jax.models.backbones import BACKBONES
from gradrev_jax.models.inputs import VectorInputs
from gradrev_jax.runs.fields.table import EARLIER_VALUES, FIELDS, SECTIONS
from gradrev_jax.runs.formats import FORMATS

# Fields that say where files lie on one machine; whoever opens a model says where they lie on theirs.
PLACES = ("compilation_cache", "data.root", "data.embeddings", "data.tfds_dir", "data.cache_dir")
# Fields that protect whoever opens a model, who alone may change them, also where the config lacks them.
SAFEGUARDS = ("data.outside", "data.largest_image")
# Fields that name files within the folder of the catalogue, so that they hold on every machine.
WITHIN_ROOT = ("data.table", "data.splits", "data.image_template")
PRETRAINED = "model.pretrained"  # only the file's name remains, for people; the weights are in the model
DATA_SET = re.compile(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?")  # one that is prepared on the machine itself
# Fields of ``data`` that belong to the model; all others are of the catalogue that it is opened over.
OF_THE_MODEL = ("image_size", "train_resize", "missing", "leave_out")
# Numbers by which a config alone could fill the memory of a machine.
LARGEST = {"data.image_size": 4096, "data.train_resize": 8192, "data.count": 10**6}
LARGEST_BATCH = 1 << 28  # pixels
MOST_UNKNOWN = 10  # fields that are named
LONGEST = 60  # characters of a value, or of the name of an unknown field, in messages
REPR = reprlib.Repr()  # whose results are short, whatever the value
REPR.maxstring = REPR.maxother = REPR.maxlong = 2 * LONGEST


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of a run without anything that belongs to one machine.

    Args:
      config: the config, by section.

    Example:
      >>> config = {"data": {"root": "/home/me/shop", "table": "/home/me/shop/labels.csv"}, "model": {}}
      >>> portable(config)["data"]
      {'root': None, 'table': 'labels.csv', 'outside': False, 'largest_image': 100.0}
    """
    made = {
        name: dict(section) if isinstance(section, Mapping) else section for name, section in config.items()
    }
    root = made["data"].get("root")
    for name in WITHIN_ROOT:
        if isinstance(given := _get(made, name), str) and not _is_within(given):
            _set(made, name, _relative(given, root))
    if isinstance(given := _get(made, PRETRAINED), str):
        _set(made, PRETRAINED, pathlib.PurePath(given).name)
    return without_places(made)


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Changes a config so that the fields that say where files lie have their defaults, and returns it."""
    for name in (*PLACES, *SAFEGUARDS):
        if name in SAFEGUARDS or _get(config, name) is not None:
            _set(config, name, FIELDS[name].default)
    return config


def check_shared(config: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Checks the config of a shared model, and removes the paths of the machine that it was trained on.

    Args:
      config: the content of the file.
      path: the file, for the message.

    Returns:
      The config without these paths: only whoever opens the model says which files are read.

    Raises:
      WorkdirError: fields are unknown, missing, of another type, or would lead out of the catalogue's folder.
    """
    flat = _flatten(config)
    unknown = [name for name in flat if name not in FIELDS]
    otherwise = "it is of another version"
    problems = [
        f"{name[:LONGEST]}: there is no such field; {did_you_mean(name, FIELDS, otherwise=otherwise)}"
        for name in unknown[:MOST_UNKNOWN]  # finding what is near takes long
    ]
    problems += _field_problems(flat, FIELDS.keys() - EARLIER_VALUES.keys(), _problem)
    if not problems and (count := flat["protocol.batch_size"] * flat["data.image_size"] ** 2) > LARGEST_BATCH:
        problems = [f"protocol.batch_size * data.image_size**2 = {count:,}: at most {LARGEST_BATCH:,}"]
    if problems:
        raise WorkdirError(f"{path} cannot be used:\n{join_lines(problems)}")
    return without_places(config)


def check_types(config: Mapping[str, Any], path: pathlib.Path) -> None:
    """Checks that the config of a run has all fields, of the types that they have.

    Args:
      config: the content of the file, with the values of fields that its version did not have.
      path: the file, for the message.

    Raises:
      WorkdirError: fields are missing or of another type.
    """
    flat = _flatten(config)
    problems = _field_problems(flat, FIELDS.keys(), _type_problem)
    if problems:
        raise WorkdirError(f"{path} cannot be used; restore it from a copy:\n{join_lines(problems)}")


def _field_problems(
    flat: Mapping[str, Any], needed: Set[str], problem_of: Callable[[str, Any], str | None]
) -> list[str]:
    """Returns a sentence for each field that is missing, and for each that has a problem."""
    missing = [f"{name} is missing" for name in FIELDS if name in needed and name not in flat]
    return missing + [
        f"{name} = {_short(value)}: {problem}"
        for name, value in flat.items()
        if name in FIELDS and (problem := problem_of(name, value))
    ]


def check_given(fields: Mapping[str, Any]) -> None:
    """Raises if fields of ``data`` that belong to a model are given by whoever opens it.

    Args:
      fields: the fields that are given.

    Raises:
      ConfigError: one of them belongs to the model.
    """
    for name in fields:
        if name in OF_THE_MODEL:
            raise ConfigError(f"data.{name} belongs to the model and cannot be given where it is opened")


def check_placed(config: Mapping[str, Any], directory: pathlib.Path) -> None:
    """Raises unless whoever opens a model has said where their catalogue lies.

    Args:
      config: the config, with what they said.
      directory: the folder of the model, for the message.

    Raises:
      ConfigError: they have not.
    """
    data = config["data"]
    needed = list(FORMATS[data["format"]].required)
    if isinstance(BACKBONES[config["model"]["backbone"]].inputs, VectorInputs):
        needed.append("embeddings")
    if unset := [name for name in needed if not data[name]]:
        raise ConfigError(
            f"{directory} is a model to share, which does not say where images lie on this machine: "
            + " and ".join(
                f"data.{name} is not set (in Python data={{{name!r}: ...}}, as a flag --data.{name}=...)"
                for name in unset
            )
        )


def _problem(name: str, value: Any) -> str | None:
    """Describes the value that a field needs in a model that is shared, if it has another."""
    problem = _type_problem(name, value)
    if problem is not None or value is None:
        return problem
    try:
        problem = FIELDS[name].problem(tuple(value) if isinstance(value, list) else value)
    except (TypeError, ValueError, OverflowError) as error:
        problem = str(error)
    if problem is None and name in LARGEST and value > LARGEST[name]:
        problem = f"at most {LARGEST[name]:,}"
    if name in WITHIN_ROOT and not _is_within(value):
        problem = "a path within the catalogue's folder"
    if name == "data.tfds_name" and not DATA_SET.fullmatch(value):
        problem = "the name of a data set, as shapes3d"
    return problem


def _type_problem(name: str, value: Any) -> str | None:
    """Returns of what type the value of a field has to be, if it is of another."""
    field = FIELDS[name]
    if value is None:
        return None if field.default is None else "it must be set"
    kind = field.kind or type(field.default)
    if kind is tuple:
        elements = {type(each) for each in field.default} or {str, int, float, list}
        if not isinstance(value, list | tuple) or not {type(each) for each in value} <= elements:
            return "a list of values of its type"
    elif type(value) is not kind and not (kind is float and type(value) is int):
        return f"a value of the type {kind.__name__}"
    if kind is float and abs(value) > sys.float_info.max:
        return "a number that a float can hold"
    return None


def _is_within(path: str) -> bool:
    """Returns whether a path, or a template of paths, is relative and never leads upwards."""
    parts = re.split(r"[/\\]", path)
    return not (path.startswith(("/", "\\", "~")) or ".." in parts or re.match(r"\w:", path) or "\0" in path)


def _relative(path: str, root: Any) -> str:
    """Returns a path relative to a folder, or its last name if it lies elsewhere."""
    given = pathlib.PurePath(path)
    if isinstance(root, str) and given.is_relative_to(root):
        relative = given.relative_to(root).as_posix()
        return relative if _is_within(relative) else given.name
    return given.name


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of all sections by dotted names; a section that is not there has none."""
    flat: dict[str, Any] = {}
    for section in SECTIONS:
        fields: Any = config
        for part in filter(None, section.split(".")):
            fields = fields.get(part) if isinstance(fields, Mapping) else None
        if isinstance(fields, Mapping):
            prefix = f"{section}." if section else ""
            flat |= {f"{prefix}{name}": value for name, value in fields.items()}
    return {name: value for name, value in flat.items() if name not in SECTIONS}


def _short(value: Any) -> str:
    text = REPR.repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _get(config: Mapping[str, Any], name: str) -> Any:
    holder, field = _holder(config, name)
    return holder.get(field)


def _set(config: Mapping[str, Any], name: str, value: Any) -> None:
    holder, field = _holder(config, name)
    holder[field] = value


def _holder(config: Mapping[str, Any], name: str) -> tuple[Any, str]:
    """Returns the section of a field, or the config itself, and the name of the field there."""
    section, _, field = name.rpartition(".")
    return (config[section] if section else config), field
