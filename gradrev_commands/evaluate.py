"""Evaluate a run: gradrev-evaluate --workdir=runs/garments."""

from absl import flags
from ml_collections import config_flags

from gradrev_commands import cli
from gradrev_commands.config_files import default_config
from gradrev_jax.distributed import is_first
from gradrev_jax.evaluation.report import result_table
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs.fields.general import STAGES
from gradrev_jax.runs.workdir import CONFIG, read_json, report_directory


def main() -> None:
    """Evaluates a run, writes its report and prints the report's table."""
    fields = default_config()
    cli.check_fields(protocol=fields.protocol, data=fields.data)
    workdir = cli.define_folder(
        "workdir", "Folder of a run of train.py; the config is read from it.", required=True
    )
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its number."
    )
    stage = flags.DEFINE_enum(
        "stage",
        None,
        STAGES,
        "Stage to evaluate; unset: the run's last. encoder, of a run with a memory: its prototypes alone.",
    )
    config_flags.DEFINE_config_dict(
        "protocol", fields.protocol, "Fields to override, as --protocol.exclude_query=true."
    )
    config_flags.DEFINE_config_dict(
        "data", fields.data, "Where the catalogue lies now, as --data.root=FOLDER."
    )
    join_processes = cli.define_processes()

    def work() -> None:
        join_processes()
        protocol, data = (
            config_flags.get_override_values(flags.FLAGS[name]) for name in ("protocol", "data")
        )
        metrics = evaluate(workdir.value, step=step.value, stage=stage.value, protocol=protocol, data=data)
        if not is_first():
            return
        print(result_table(metrics))
        stages = read_json(workdir.value / CONFIG)["stages"]
        print(f"\nReport: {report_directory(workdir.value, metrics['stage'], stages) / 'report.md'}")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
