"""Evaluate a run: python evaluate.py --workdir=runs/garments."""

import pathlib

from absl import flags
from ml_collections import config_flags

from configs import default
from gradrev_jax import cli
from gradrev_jax.evaluation.report import result_table
from gradrev_jax.evaluation.run import evaluate

_FIELDS = default.get_config().protocol

cli.check_fields(protocol=_FIELDS)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run of train.py; the config is read from it.", required=True
)
_STEP = flags.DEFINE_string(
    "step", "best", "Checkpoint: best (on the validation part), latest, or its number."
)
config_flags.DEFINE_config_dict("protocol", _FIELDS, "Fields to override, as --protocol.exclude_query=true.")


def main() -> None:
    """Write the report and print its table."""
    overrides = config_flags.get_override_values(flags.FLAGS["protocol"])
    workdir = pathlib.Path(_WORKDIR.value)
    metrics = evaluate(workdir, step=_STEP.value, protocol=overrides)
    print(result_table(metrics))
    print(f"\nReport: {workdir / 'report' / 'report.md'}")


if __name__ == "__main__":
    cli.run(main)
