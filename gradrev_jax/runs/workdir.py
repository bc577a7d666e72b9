"""Reads and writes the files of a run's folder other than its checkpoints."""

import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.vector_rows import Vectors
from gradrev_jax.errors import ConfigError, WorkdirError, first_line
from gradrev_jax.files import replace_file
from gradrev_jax.runs.checkpoint_layout import step_of
from gradrev_jax.runs.fields.table import EARLIER_VALUES, FIELDS, RENAMED, is_resumable
from gradrev_jax.runs.model_file import holds_model
from gradrev_jax.runs.shared_config import check_shared
from gradrev_jax.systems.objective import STAGES

CONFIG, SCHEMA, METRICS = "config.json", "schema.json", "metrics.jsonl"
VECTORS, REPORT = "embeddings.json", "report"
LARGEST_JSON = 1 << 25  # bytes: as objects, they may take twenty times as many


def checkpoint_directory(workdir: pathlib.Path, stage: str) -> pathlib.Path:
    """Returns the folder of a stage's checkpoints."""
    return workdir / "checkpoints" / stage


def report_directory(
    workdir: pathlib.Path, stage: str, stages: Sequence[str], name: str | None = None
) -> pathlib.Path:
    """Returns the folder of a stage's report: ``report`` for the last stage, else ``report_encoder``.

    Args:
      workdir: the run's folder.
      stage: the stage.
      stages: all stages of the run.
      name: the name of another report of the same stage, which stands at the end; None: there is none.

    Example:
      >>> report_directory(pathlib.Path("run"), "encoder", ("encoder", "memory")).name
      'report_encoder'
      >>> report_directory(pathlib.Path("run"), "encoder", ("encoder",), "posterior").name
      'report_posterior'
    """
    parts = [REPORT, None if stage == stages[-1] else stage, name]
    return workdir / "_".join(filter(None, parts))


def check_report_name(name: str) -> None:
    """Checks that a name of a report is no path, and cannot be taken for that of a stage's report.

    Raises:
      ConfigError: it is, or can.

    Example:
      >>> check_report_name("posterior")
      >>> check_report_name("a/b")
      Traceback (most recent call last):
      gradrev_jax.errors.ConfigError: the name of a report must have a character, and no slash, got 'a/b'
    """
    if not name or "/" in name or "\\" in name:
        raise ConfigError(f"the name of a report must have a character, and no slash, got {name!r}")
    if f"{name}_".startswith(tuple(f"{stage}_" for stage in STAGES)):
        raise ConfigError(f"the name of a report must not start with that of a stage, got {name!r}")


def earlier_values(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the fields that the run in a folder does not have, with what they stood for at its time.

    Raises:
      WorkdirError: its config is damaged.
    """
    if not (workdir / CONFIG).exists():
        return {}
    known = flat_fields(_read_fields(workdir))
    return {field: value for field, value in EARLIER_VALUES.items() if field not in known}


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads the config of a run; fields that it does not have get the values they stood for at its time.

    Raises:
      WorkdirError: there is no run, the file is damaged, or a shared model's cannot be used.
    """
    config = _read_fields(workdir)
    if holds_model(workdir):
        config = check_shared(config, workdir / CONFIG)
    for field, value in EARLIER_VALUES.items():
        section, _, name = field.rpartition(".")
        # The section of a later system is not there.
        fields = config.setdefault(section, {}) if section else config
        if isinstance(fields, dict):
            fields.setdefault(name, value)
    return config


def _read_fields(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads the fields that the config of a run has, under their names of now.

    Raises:
      WorkdirError: there is no run, or the file is damaged.
    """
    config = read_json(workdir / CONFIG)
    if not isinstance(config, dict):
        raise WorkdirError(f"{workdir / CONFIG} is no config; restore it from a copy")
    return _with_new_names(config)


def _with_new_names(config: dict[str, Any]) -> dict[str, Any]:
    """Gives fields of a run of an earlier version the names that they have now."""
    for section, names in RENAMED.items():
        fields = config.get(section)
        for name, former in names.items():
            if isinstance(fields, dict) and name not in fields and former in fields:
                fields[name] = fields.pop(former)
    return config


def claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes config.json, if the run in the folder may go on with this config.

    Raises:
      WorkdirError: the run there was started with other values, see ``check_claim``.
    """
    check_claim(workdir, config)
    write_json(workdir / CONFIG, config)


def check_claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Checks that a folder holds no run, or one that this config may go on with; writes nothing.

    Raises:
      WorkdirError: the run there was started with other values; every such field is named with both.
    """
    path = workdir / CONFIG
    earlier = flat_fields(EARLIER_VALUES)
    new = earlier | flat_fields(config)
    if path.exists():
        old = earlier | flat_fields(read_config(workdir))
        # One may be left out, and still have checkpoints.
        folders = {stage: checkpoint_directory(workdir, stage).glob("*") for stage in STAGES}
        begun = [
            stage for stage, found in folders.items() if any(step_of(each) is not None for each in found)
        ]
        old["stages"] = [*old.get("stages", ()), *begun]
        changed = [
            f"  {field}: {json.dumps(old.get(field))} there, {json.dumps(new.get(field))} now"
            + ("" if field in FIELDS else " (a field of the code that wrote the run, which this has not)")
            for field in sorted(old.keys() | new.keys())
            if old.get(field) != new.get(field) and not is_resumable(field, old)
        ]
        if changed:
            lines = "\n".join(changed)
            raise WorkdirError(
                f"{workdir} holds a run that was started with another config:\n{lines}\n"
                "Give the same values to go on with it, or another --workdir to start afresh."
            )


def claim_schema(workdir: pathlib.Path, schema: AttributeSchema) -> None:
    """Writes the schema the run's parameters belong to, or checks that the catalogue still has it.

    Raises:
      WorkdirError: as ``check_schema``.
    """
    path = workdir / SCHEMA
    if path.exists():
        check_schema(workdir, schema)
    write_json(path, {"names": schema.names, "values": schema.values})


def check_schema(workdir: pathlib.Path, schema: AttributeSchema) -> None:
    """Raises unless the catalogue has the attributes and values that a run was started with.

    Raises:
      WorkdirError: it has others; those that are new and those that are gone are named.
    """
    old = read_schema(workdir)
    if old == schema:
        return
    before, now = _described(old), _described(schema)
    kinds = {
        "new": [each for each in now if each not in set(before)],
        "gone": [each for each in before if each not in set(now)],
    }
    changes = "; ".join(
        f"{kind}: {', '.join(each[:5])}" + (f" and {len(each) - 5} more" if len(each) > 5 else "")
        for kind, each in kinds.items()
        if each
    )
    raise WorkdirError(
        f"the catalogue's attributes or values are not those that {workdir} was started with "
        f"({changes or 'they come in another order'}); restore the catalogue, leave new columns out by "
        "data.ignore, or start afresh in another --workdir (searching takes other values and further columns)"
    )


def claim_vectors(workdir: pathlib.Path, vectors: Vectors | None) -> None:
    """Writes the width of the vectors that a run is trained on, if it is, or checks that it is the same.

    Raises:
      WorkdirError: as ``check_vectors``.
    """
    check_vectors(workdir, vectors)
    if vectors is not None:
        write_json(workdir / VECTORS, {"width": vectors.shape[-1]})


def check_vectors(workdir: pathlib.Path, vectors: Vectors | None) -> None:
    """Raises unless a catalogue's vectors have the width of those that a run was trained on.

    Raises:
      WorkdirError: they have another.
    """
    path = workdir / VECTORS
    if vectors is None or not path.exists():
        return
    written, now = read_json(path), vectors.shape[-1]
    before = written.get("width") if isinstance(written, dict) else None
    if before != now:
        raise WorkdirError(
            f"the embeddings have {now:,} numbers per image, and {workdir} was trained on {before}: they "
            "are of another network; give the file of the same one, as --data.embeddings=FILE for "
            "evaluate.py or --config.data.embeddings=FILE for train.py"
        )


def read_schema(workdir: pathlib.Path) -> AttributeSchema:
    """Reads the schema of a run.

    Raises:
      WorkdirError: there is no run, or the file is damaged.
    """
    written = read_json(path := workdir / SCHEMA)
    try:
        names, values = tuple(written["names"]), tuple(map(tuple, written["values"]))
        if all(isinstance(each, str) for each in (*names, *itertools.chain(*values))):
            return AttributeSchema(names, values)
        reason = "a name is no text"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = first_line(error)
    raise WorkdirError(f"{path} does not describe attributes ({reason}); restore it from a copy")


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file that a run wrote.

    Raises:
      WorkdirError: it is missing or damaged.
    """
    try:
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes, at most {LARGEST_JSON:,} are read")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkdirError(f"{path.parent} is not a run of train.py: it has no {path.name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WorkdirError(f"{path} cannot be read: {error}") from error


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON so that the file is either the old one or the whole new one."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that it is either the old one or the whole new one, see ``write_bytes``."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that it is either the old one or the whole new one.

    Raises:
      WorkdirError: the folder cannot be written to, or the disk is full; the old file is untouched.
    """
    replace_file(path, content, WorkdirError)


def flat_fields(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested fields under dotted names, in JSON's types (a tuple becomes a list)."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flat_fields(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _described(schema: AttributeSchema) -> list[str]:
    return [
        f"{name}: {value}"
        for name, values in zip(schema.names, schema.values, strict=True)
        for value in values
    ]
