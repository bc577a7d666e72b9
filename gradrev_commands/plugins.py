"""Modules of the user's own that add to the registries, such as a system, before a command starts."""

import importlib
import os

from gradrev_jax.errors import ConfigError, first_line

PLUGINS = "GRADREV_PLUGINS"  # the environment variable


def load_plugins() -> None:
    """Imports the modules that GRADREV_PLUGINS names, with commas between; see docs/extending.md.

    Raises:
      ConfigError: one cannot be imported.
    """
    for name in filter(None, os.environ.get(PLUGINS, "").split(",")):
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the module raises
            raise ConfigError(f"{PLUGINS}: {first_line(error)}") from error
