"""Write a run's parameters for torch: python -m gradrev_jax.export_torch --workdir=runs/mine --out=weights.

Named as ADDE-M's checkpoints are: extractor.pth, and memory.pth where the run has fine-tuned one. Which
tensors they hold says models/torch_weights.py; torch.load(FILE, weights_only=True) reads them.
"""

from absl import flags

from gradrev_jax import cli
from gradrev_jax.settings import STAGES
from gradrev_jax.torch_writer import WRITERS
from gradrev_jax.training.torch_runs import export_run


def main() -> None:
    """Write the files and say which."""
    values = flags.FLAGS
    files = export_run(
        values.workdir, values.out, suffix=f".{values.format}", step=values.step, stage=values.stage
    )
    print("\n".join(map(str, files)))


if __name__ == "__main__":
    cli.define_folder("workdir", "Folder of a run of train.py.", required=True)
    cli.define_folder("out", "Folder to write; must not exist.", required=True, written=True)
    flags.DEFINE_enum("format", "pth", [suffix[1:] for suffix in WRITERS], "pth: torch's; or safetensors.")
    flags.DEFINE_string("step", "best", "Checkpoint: best (on the validation part), latest, or its number.")
    flags.DEFINE_enum("stage", None, STAGES, "Stage to write; unset: the run's last.")
    cli.run(main)
