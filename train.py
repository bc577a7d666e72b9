"""Train an attribute encoder: python train.py --config=configs/garments.py --workdir=runs/garments."""

import pathlib

from absl import flags
from ml_collections import config_flags

from configs import default
from gradrev_jax import cli
from gradrev_jax.errors import ConfigError
from gradrev_jax.training.loop import train

cli.check_fields(config=default.get_config())
_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; started again, it goes on there.", required=True
)
flags.mark_flag_as_required("config")


def main() -> None:
    """Run the config."""
    file = config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]
    if not pathlib.Path(file).is_file():
        raise ConfigError(f"--config={file} does not exist; this project's are in configs/")
    train(_CONFIG.value, pathlib.Path(_WORKDIR.value))
    print(f"\nNext: python evaluate.py --workdir={_WORKDIR.value}")


if __name__ == "__main__":
    cli.run(main)
