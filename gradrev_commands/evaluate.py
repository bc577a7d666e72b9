"""Evaluates a run: gradrev-evaluate --workdir=runs/garments."""

from absl import flags

from gradrev_commands import cli
from gradrev_jax.distributed import is_first
from gradrev_jax.evaluation.report import result_table
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs.compilation_cache import use_cache_of_run
from gradrev_jax.runs.fields.table import default_config
from gradrev_jax.runs.workdir import CONFIG, read_json, report_directory
from gradrev_jax.systems.objective import STAGES


def main() -> None:
    """Evaluates a run, writes its report and prints the report's table."""
    fields = default_config()
    cli.check_fields(protocol=fields.protocol, data=fields.data)
    workdir = cli.define_folder("workdir", "Folder of the run, which has its config.", required=True)
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its step."
    )
    stage = flags.DEFINE_enum(
        "stage",
        None,
        STAGES,
        "Stage to evaluate; unset: the last of the run. In a run with a fine-tuned memory, encoder evaluates "
        "the prototypes before fine-tuning.",
    )
    report = flags.DEFINE_string(
        "report", None, "Name of a report of its own, in the folder report_NAME; unset: report."
    )
    read_protocol = cli.define_section(
        "protocol",
        fields.protocol,
        "Section of the config; --protocol.FIELD=VALUE overrides a field, for example "
        "--protocol.ks='(1, 5)'.",
    )
    read_data = cli.define_section(
        "data",
        fields.data,
        "Section of the config; --data.FIELD=VALUE says where the catalogue lies now, for example "
        "--data.root=FOLDER.",
    )
    initialize_processes = cli.define_processes()

    def work() -> None:
        initialize_processes()
        use_cache_of_run(workdir.value)
        metrics = evaluate(
            workdir.value,
            step=step.value,
            stage=stage.value,
            report=report.value,
            protocol=read_protocol(),
            data=read_data(),
        )
        if not is_first():
            return
        print(result_table(metrics))
        stages = read_json(workdir.value / CONFIG)["stages"]
        folder = report_directory(workdir.value, metrics["stage"], stages, report.value)
        print(f"\nReport: {folder / 'report.md'}")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
