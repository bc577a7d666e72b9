"""Train an attribute encoder: python train.py --config=configs/garments.py --workdir=runs/garments."""

from gradrev_jax import cli
from gradrev_jax.processes import is_first
from gradrev_jax.training.loop import train

_CONFIG = cli.define_config()
_WORKDIR = cli.define_folder(
    "workdir", "Folder of the run; started again, it goes on there.", required=True, written=True
)
_JOIN = cli.define_processes()


def main() -> None:
    """Run the config."""
    _JOIN()
    train(_CONFIG(), _WORKDIR.value)
    if is_first():
        print(f"\nNext: {cli.command_line('evaluate.py', f'--workdir={_WORKDIR.value}')}")


if __name__ == "__main__":
    cli.run(main)
