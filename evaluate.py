"""Evaluate a run: python evaluate.py --workdir=runs/garments."""

import pathlib

from absl import flags
from ml_collections import config_flags

from configs import default
from gradrev_jax import cli
from gradrev_jax.evaluation.report import result_table
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.processes import is_first
from gradrev_jax.settings import STAGES
from gradrev_jax.workdir import CONFIG, read_json, report_directory

_FIELDS = default.get_config().protocol

cli.check_fields(protocol=_FIELDS)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run of train.py; the config is read from it.", required=True
)
_STEP = flags.DEFINE_string(
    "step", "best", "Checkpoint: best (on the validation part), latest, or its number."
)
_STAGE = flags.DEFINE_enum(
    "stage",
    None,
    STAGES,
    "Stage to evaluate; unset: the run's last. encoder, of a run with a memory: its prototypes alone.",
)
config_flags.DEFINE_config_dict("protocol", _FIELDS, "Fields to override, as --protocol.exclude_query=true.")
_JOIN = cli.define_processes()


def main() -> None:
    """Write the report and print its table."""
    _JOIN()
    overrides = config_flags.get_override_values(flags.FLAGS["protocol"])
    workdir = pathlib.Path(_WORKDIR.value)
    metrics = evaluate(workdir, step=_STEP.value, stage=_STAGE.value, protocol=overrides)
    if not is_first():
        return
    print(result_table(metrics))
    stages = read_json(workdir / CONFIG)["stages"]
    print(f"\nReport: {report_directory(workdir, metrics['stage'], stages) / 'report.md'}")


if __name__ == "__main__":
    cli.run(main)
