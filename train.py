"""Train an attribute encoder: python train.py --config=configs/garments.py --workdir=runs/garments."""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from gradrev_jax.errors import UserError
from gradrev_jax.training.loop import train

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; started again, it goes on there.", required=True
)
flags.mark_flag_as_required("config")


def main(arguments: list[str]) -> None:
    """Run the config, or say in one message what has to be put right."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    try:
        train(_CONFIG.value, pathlib.Path(_WORKDIR.value))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    flags.FLAGS.set_default("verbosity", logging.ERROR)  # Orbax tells much; --verbosity=0 shows it
    app.run(main)
