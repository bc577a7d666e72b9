"""Every field of a run, with the paper's values; the other configs start from this one and override.

docs/configuration.md has all fields with their meaning. Override any on the command line, as
--config.train.epochs=10.
"""

from ml_collections import ConfigDict

from gradrev_jax.runs.fields.table import default_config


def get_config(arg: str | None = None) -> ConfigDict:
    """All fields. The config is locked: a field that is not here cannot be set by mistake."""
    del arg
    return default_config()
