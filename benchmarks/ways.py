"""Ways of evaluating one run: fields of the protocol after a name, as the command line has them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from gradrev_jax.errors import ConfigError


class Way(NamedTuple):
    """Represents one way of evaluating a run.

    Attributes:
      name: the name in the table.
      fields: the fields of the protocol that differ from the run's own, as text.
    """

    name: str
    fields: Mapping[str, str]


def parse_way(text: str) -> Way:
    """Reads a way of evaluating from ``NAME:FIELD=VALUE,FIELD=VALUE``; the fields may be missing.

    Raises:
      ConfigError: there is no name, or a field without a value.

    Example:
      >>> parse_way("equal:weights=none,strength=1")
      Way(name='equal', fields={'weights': 'none', 'strength': '1'})
      >>> parse_way("plain:")
      Way(name='plain', fields={})
    """
    name, _, rest = text.partition(":")
    assignments = [each.partition("=") for each in filter(None, rest.split(","))]
    if not name or "=" in name or not all(field and sign for field, sign, _ in assignments):
        raise ConfigError(f"a way of evaluating is NAME:FIELD=VALUE,FIELD=VALUE, got {text!r}")
    return Way(name, {field: value for field, _, value in assignments})


def protocol_fields(config: ConfigDict, way: Way) -> dict[str, Any]:
    """Returns the fields of a way in the types that they have in a config.

    Raises:
      ConfigError: a value of another type.
    """
    known = config.protocol
    try:
        return {
            name: parse_value(known[name], text) if name in known else text
            for name, text in way.fields.items()
        }
    except ValueError as error:
        raise ConfigError(f"--ways {way.name}: {error}") from error


def parse_value(default: Any, text: str) -> Any:
    """Converts the text of a field to the type of its default; nothing is a tuple without entries.

    Example:
      >>> parse_value(1e-4, "0.1"), parse_value(("encoder",), "encoder+memory"), parse_value(None, "imagenet")
      (0.1, ('encoder', 'memory'), 'imagenet')
      >>> parse_value(("oracle",), ""), parse_value(True, "false")
      ((), False)
    """
    if isinstance(default, bool):
        return text.lower() == "true"
    if isinstance(default, tuple):
        return tuple(filter(None, text.replace("+", ",").split(",")))
    return text if default is None else type(default)(text)
