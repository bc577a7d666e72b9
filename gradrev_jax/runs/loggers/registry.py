"""The loggers, by the name that a config has for them."""

import importlib
from collections.abc import Sequence

from gradrev_jax.errors import ConfigError, first_line
from gradrev_jax.runs.loggers.logger import Logger, without_warnings
from gradrev_jax.runs.loggers.mlflow import MLflow
from gradrev_jax.runs.loggers.tensorboard import TensorBoard
from gradrev_jax.runs.loggers.trackio import Trackio
from gradrev_jax.runs.loggers.wandb import WandB

LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}


def check_loggers(names: Sequence[str]) -> None:
    """Imports the packages that loggers need.

    Args:
      names: the names of the loggers.

    Raises:
      ConfigError: one of them is not installed, or cannot be imported.

    Example:
      >>> check_loggers(("tensorboard",))
    """
    for name in names:
        package = LOGGERS[name].package
        try:
            with without_warnings():
                importlib.import_module(package)
        except Exception as error:  # what a package does when it is imported is its own affair
            missing = isinstance(error, ModuleNotFoundError) and error.name == package
            reason = "is not installed" if missing else f"cannot be imported ({first_line(error).strip()})"
            raise ConfigError(
                f"train.loggers: {name} needs the package {package}, which {reason}; install it with "
                f"pip install 'gradrev_jax[{name}]' (in a checkout, pip install -e '.[{name}]'), or leave "
                f"{name} out"
            ) from error
