"""Train an attribute encoder: python train.py --config=configs/garments.py --workdir=runs/garments."""

import pathlib

from absl import flags

from configs import default
from gradrev_jax import cli
from gradrev_jax.processes import is_first
from gradrev_jax.training.loop import train

_CONFIG = cli.define_config(default.get_config())
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; started again, it goes on there.", required=True
)
_JOIN = cli.define_processes()


def main() -> None:
    """Run the config."""
    _JOIN()
    train(_CONFIG(), pathlib.Path(_WORKDIR.value))
    if is_first():
        print(f"\nNext: python evaluate.py --workdir={_WORKDIR.value}")


if __name__ == "__main__":
    cli.run(main)
