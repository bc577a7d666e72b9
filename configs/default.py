"""Holds every field of a run, with the paper's values; the other configs start from this one.

docs/configuration.md explains all fields. Any field can be overridden on the command line, as in
--config.train.epochs=10.
"""

from ml_collections import ConfigDict

from gradrev_jax.runs.fields.table import default_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns all fields. The config is locked, so an unknown field cannot be set by mistake."""
    del arg
    return default_config()
