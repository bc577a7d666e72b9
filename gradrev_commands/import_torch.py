r"""Makes a run from checkpoints of torch, for example those of ADDE-M.

    gradrev-import-torch --config=shopping100k --config.data.root=IMAGES \
        --config.data.splits=SPLITS --extractor=extractor_best.pkl --memory=memory_best.pkl \
        --workdir=runs/adde

The attributes and values are those of the config's catalogue, in its order. The tap and the heads are those
of the file. Without --memory, evaluation computes prototypes from the training images.
"""

import shlex

from gradrev_commands import cli
from gradrev_jax.runs.compilation_cache import use_compilation_cache
from gradrev_jax.training.torch_runs import import_run


def main() -> None:
    """Makes the run, and prints the commands that evaluate and train it."""
    read_config = cli.define_config()
    extractor = cli.define_file("extractor", "File with the parameters of the encoder.", required=True)
    memory = cli.define_file("memory", "File with the memory; unset: the run has only an encoder.")
    workdir = cli.define_folder(
        "workdir", "Folder of the run, which is created.", required=True, written=True
    )

    def work() -> None:
        config = read_config()
        use_compilation_cache(config.get("compilation_cache"))
        decided = import_run(config, workdir.value, extractor.value, memory.value)
        fields = [f'--config.{field}="{value}"' for field, value in decided.items()]
        flag = f"--workdir={workdir.value}"
        print(f"Next: {cli.command_line('evaluate', flag)}")
        print(
            f"or, to train on: {cli.command_line('train')}, the same --config, and",
            *fields,
            shlex.quote(flag),
        )

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
