"""Evaluate a run: python evaluate.py --workdir=runs/garments."""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from configs import default
from gradrev_jax.errors import UserError
from gradrev_jax.evaluation.report import result_table
from gradrev_jax.evaluation.run import evaluate

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run of train.py; the config is read from it.", required=True
)
_STEP = flags.DEFINE_string(
    "step", "best", "Checkpoint: best (on the validation part), latest, or its number."
)
_PROTOCOL = config_flags.DEFINE_config_dict(
    "protocol", default.get_config().protocol, "Fields to override, as --protocol.exclude_query=true."
)


def main(arguments: list[str]) -> None:
    """Write the report and print its table, or say in one message what has to be put right."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    overrides = config_flags.get_override_values(flags.FLAGS["protocol"])
    workdir = pathlib.Path(_WORKDIR.value)
    try:
        metrics = evaluate(workdir, step=_STEP.value, protocol=overrides)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(result_table(metrics))
    print(f"\nReport: {workdir / 'report' / 'report.md'}")


if __name__ == "__main__":
    flags.FLAGS.set_default("verbosity", logging.ERROR)  # Orbax tells much; --verbosity=0 shows it
    app.run(main)
