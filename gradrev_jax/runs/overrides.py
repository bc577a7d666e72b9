"""Changes fields of a config after a run was trained, as far as they may change."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gradrev_jax.errors import ConfigError
from gradrev_jax.runs.fields.table import names_with


def override(config: ConfigDict, section: str, fields: Mapping[str, Any]) -> None:
    """Sets fields of one section of a config.

    Raises:
      ConfigError: a field that is not there, or a value of another type.
    """
    for name, value in fields.items():
        if name not in config[section]:
            raise ConfigError(f"{section} has no field {name!r}; it has {', '.join(config[section])}")
        if isinstance(config[section][name], str) and isinstance(value, (int, float)):
            value = str(value)  # of a field that may also be a word, as protocol.strength
        try:
            config[section][name] = value
        except TypeError as error:
            raise ConfigError(f"{section}.{name} = {value!r}: {error}") from error


def override_movable(config: ConfigDict, fields: Mapping[str, Any]) -> None:
    """Sets *movable* fields of ``data``: those that say where a run's catalogue lies now, not what it holds.

    Raises:
      ConfigError: a field that is not movable, because it would make another catalogue; or a value of another
        type.
    """
    for name in fields:
        if name in config.data and f"data.{name}" not in names_with("movable"):
            raise ConfigError(
                f"data.{name} belongs to the run and cannot be changed after training, because it would make "
                f"another catalogue; what may be: {', '.join(names_with('movable'))}"
            )
    override(config, "data", fields)
