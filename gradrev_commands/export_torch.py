"""Writes the parameters of a run for torch: gradrev-export-torch --workdir=runs/mine --out=weights.

The files have the names of ADDE-M's checkpoints: extractor.pth, and memory.pth if the run has fine-tuned a
memory. gradrev_jax/weights/adde.py describes their tensors; torch.load(FILE, weights_only=True) reads them.
"""

from absl import flags

from gradrev_commands import cli
from gradrev_jax.runs.compilation_cache import use_cache_of_run
from gradrev_jax.systems.objective import STAGES
from gradrev_jax.training.torch_runs import export_run
from gradrev_jax.weights.writer import WRITERS


def main() -> None:
    """Writes the parameters of a run and prints the names of the files."""
    workdir = cli.define_folder("workdir", "Folder of the run.", required=True)
    out = cli.define_folder("out", "Folder to write; must not exist.", required=True, written=True)
    suffix = flags.DEFINE_enum("format", "pth", [suffix[1:] for suffix in WRITERS], "Format of the files.")
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its step."
    )
    stage = flags.DEFINE_enum("stage", None, STAGES, "Stage to write; unset: the last of the run.")

    def work() -> None:
        use_cache_of_run(workdir.value)
        files = export_run(
            workdir.value, out.value, suffix=f".{suffix.value}", step=step.value, stage=stage.value
        )
        print("\n".join(map(str, files)))

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
