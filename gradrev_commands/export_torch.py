"""Write a run's parameters for torch: gradrev-export-torch --workdir=runs/mine --out=weights.

Named as ADDE-M's checkpoints are: extractor.pth, and memory.pth where the run has fine-tuned one. Which
tensors they hold says gradrev_jax/weights/adde.py; torch.load(FILE, weights_only=True) reads them.
"""

from absl import flags

from gradrev_commands import cli
from gradrev_jax.runs.fields.general import STAGES
from gradrev_jax.training.torch_runs import export_run
from gradrev_jax.weights.writer import WRITERS


def main() -> None:
    """Writes a run's parameters and says into which files."""
    workdir = cli.define_folder("workdir", "Folder of a run of train.py.", required=True)
    out = cli.define_folder("out", "Folder to write; must not exist.", required=True, written=True)
    suffix = flags.DEFINE_enum(
        "format", "pth", [suffix[1:] for suffix in WRITERS], "pth: torch's; or safetensors."
    )
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its number."
    )
    stage = flags.DEFINE_enum("stage", None, STAGES, "Stage to write; unset: the run's last.")

    def work() -> None:
        files = export_run(
            workdir.value, out.value, suffix=f".{suffix.value}", step=step.value, stage=stage.value
        )
        print("\n".join(map(str, files)))

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
