"""Trains an attribute encoder: gradrev-train --config=garments --workdir=runs/garments."""

import sys

from gradrev_commands import cli, signals
from gradrev_jax.distributed import is_first
from gradrev_jax.runs.compilation_cache import use_compilation_cache
from gradrev_jax.runs.freed_memory import return_large_blocks
from gradrev_jax.training.run import train
from gradrev_jax.training.stopping import TrainingStopped


def main() -> None:
    """Trains with the config and in the folder that the flags give."""
    read_config = cli.define_config()
    workdir = cli.define_folder(
        "workdir", "Folder of the run; a run that it already has is continued.", required=True, written=True
    )
    initialize_processes = cli.define_processes()

    def work() -> None:
        initialize_processes()
        config = read_config()
        return_large_blocks()
        use_compilation_cache(config.get("compilation_cache"))
        try:
            train(config, workdir.value, stop=signals.requested, during_steps=signals.deferred)
        except TrainingStopped as stopped:
            if is_first():
                print(f"{stopped}; to go on: {cli.command_line('train', *sys.argv[1:])}", file=sys.stderr)
            sys.exit(signals.status())
        if is_first():
            print(f"\nNext: {cli.command_line('evaluate', f'--workdir={workdir.value}')}")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
