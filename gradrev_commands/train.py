"""Trains an attribute encoder: gradrev-train --config=garments --workdir=runs/garments."""

from gradrev_commands import cli
from gradrev_jax.distributed import is_first
from gradrev_jax.training.run import train


def main() -> None:
    """Trains with the config and in the folder that the flags give."""
    read_config = cli.define_config()
    workdir = cli.define_folder(
        "workdir", "Folder of the run; a run that it already has is continued.", required=True, written=True
    )
    initialize_processes = cli.define_processes()

    def work() -> None:
        initialize_processes()
        train(read_config(), workdir.value)
        if is_first():
            print(f"\nNext: {cli.command_line('evaluate', f'--workdir={workdir.value}')}")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
