"""Evaluate a run: python evaluate.py --workdir=runs/garments."""

import pathlib

from absl import flags
from ml_collections import config_flags

from gradrev_jax import cli
from gradrev_jax.config_files import read_config
from gradrev_jax.evaluation.report import result_table
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.processes import is_first
from gradrev_jax.settings import STAGES
from gradrev_jax.workdir import CONFIG, read_json, report_directory

_FIELDS = read_config(pathlib.Path(__file__).resolve().with_name("configs") / "default.py")

cli.check_fields(protocol=_FIELDS.protocol, data=_FIELDS.data)
_WORKDIR = cli.define_folder(
    "workdir", "Folder of a run of train.py; the config is read from it.", required=True
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
config_flags.DEFINE_config_dict(
    "protocol", _FIELDS.protocol, "Fields to override, as --protocol.exclude_query=true."
)
config_flags.DEFINE_config_dict("data", _FIELDS.data, "Where the catalogue lies now, as --data.root=FOLDER.")
_JOIN = cli.define_processes()


def main() -> None:
    """Write the report and print its table."""
    _JOIN()
    protocol, data = (config_flags.get_override_values(flags.FLAGS[name]) for name in ("protocol", "data"))
    workdir = _WORKDIR.value
    metrics = evaluate(workdir, step=_STEP.value, stage=_STAGE.value, protocol=protocol, data=data)
    if not is_first():
        return
    print(result_table(metrics))
    stages = read_json(workdir / CONFIG)["stages"]
    print(f"\nReport: {report_directory(workdir, metrics['stage'], stages) / 'report.md'}")


if __name__ == "__main__":
    cli.run(main)
