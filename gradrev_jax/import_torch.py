r"""Make a run of torch's checkpoints, as those of ADDE-M.

    python -m gradrev_jax.import_torch --config=configs/shopping100k.py --config.data.root=IMAGES \
        --config.data.splits=SPLITS --extractor=extractor_best.pkl --memory=memory_best.pkl \
        --workdir=runs/adde

Attributes and values are those of the config's catalogue, in its order. The tap and the heads are the file's.
Without --memory, evaluation computes prototypes from the training images.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

from configs import default
from gradrev_jax import cli
from gradrev_jax.training.torch_runs import import_run


def main(read_config: Callable[[], Any]) -> None:
    """Make the run, and say what to do with it."""
    values = flags.FLAGS
    directory = pathlib.Path(values.workdir)
    memory = pathlib.Path(values.memory) if values.memory else None
    decided = import_run(read_config(), directory, pathlib.Path(values.extractor), memory)
    fields = [f'--config.{field}="{value}"' for field, value in decided.items()]
    print(f"Next: python evaluate.py --workdir={directory}")
    print("or, to train on: python train.py, the same --config, and", *fields, f"--workdir={directory}")


if __name__ == "__main__":
    config = cli.define_config(default.get_config())
    flags.DEFINE_string("extractor", None, "File of the encoder's parameters.", required=True)
    flags.DEFINE_string("memory", None, "File of the memory; unset: an encoder alone.")
    flags.DEFINE_string("workdir", None, "Folder of the run; is made.", required=True)
    cli.run(functools.partial(main, config))
