"""Train an attribute encoder: gradrev-train --config=garments --workdir=runs/garments."""

from gradrev_commands import cli
from gradrev_jax.distributed import is_first
from gradrev_jax.training.run import train


def main() -> None:
    """Trains a config in a folder, as the command line says."""
    read_config = cli.define_config()
    workdir = cli.define_folder(
        "workdir", "Folder of the run; started again, it goes on there.", required=True, written=True
    )
    join_processes = cli.define_processes()

    def work() -> None:
        join_processes()
        train(read_config(), workdir.value)
        if is_first():
            print(f"\nNext: {cli.command_line('evaluate', f'--workdir={workdir.value}')}")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
