r"""Make a run of torch's checkpoints, as those of ADDE-M.

    python -m gradrev_jax.import_torch --config=configs/shopping100k.py --config.data.root=IMAGES \
        --config.data.splits=SPLITS --extractor=extractor_best.pkl --memory=memory_best.pkl \
        --workdir=runs/adde

Attributes and values are those of the config's catalogue, in its order. The tap and the heads are the file's.
Without --memory, evaluation computes prototypes from the training images.
"""

import functools
import shlex
from collections.abc import Callable
from typing import Any

from absl import flags

from gradrev_jax import cli
from gradrev_jax.training.torch_runs import import_run


def main(read_config: Callable[[], Any]) -> None:
    """Make the run, and say what to do with it."""
    values = flags.FLAGS
    decided = import_run(read_config(), values.workdir, values.extractor, values.memory)
    fields = [f'--config.{field}="{value}"' for field, value in decided.items()]
    workdir = f"--workdir={values.workdir}"
    print(f"Next: {cli.command_line('evaluate.py', workdir)}")
    train = cli.command_line("train.py")
    print(f"or, to train on: {train}, the same --config, and", *fields, shlex.quote(workdir))


if __name__ == "__main__":
    config = cli.define_config()
    cli.define_file("extractor", "File of the encoder's parameters.", required=True)
    cli.define_file("memory", "File of the memory; unset: an encoder alone.")
    cli.define_folder("workdir", "Folder of the run; is made.", required=True, written=True)
    cli.run(functools.partial(main, config))
