"""Train an attribute encoder: python train.py --config=configs/garments.py --workdir=runs/garments."""

import pathlib

from absl import flags

from configs import default
from gradrev_jax import cli
from gradrev_jax.training.loop import train

_CONFIG = cli.define_config(default.get_config())
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; started again, it goes on there.", required=True
)


def main() -> None:
    """Run the config."""
    train(_CONFIG(), pathlib.Path(_WORKDIR.value))
    print(f"\nNext: python evaluate.py --workdir={_WORKDIR.value}")


if __name__ == "__main__":
    cli.run(main)
