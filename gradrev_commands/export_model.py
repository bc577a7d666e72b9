"""Writes a run as a model to share: gradrev-export-model --workdir=runs/mine --out=model.

The folder has the parameters, the config, the attributes and a model card; docs/sharing.md describes it. With
--push=OWNER/NAME it is published on the hub, which needs the extra `hub`; without --workdir, the folder that
is there is published.
"""

from absl import flags

from gradrev_commands import cli
from gradrev_jax.errors import ConfigError
from gradrev_jax.runs.compilation_cache import use_cache_of_run
from gradrev_jax.runs.fields.table import default_config
from gradrev_jax.serving.export import export_model
from gradrev_jax.serving.hub import CARD, push_model
from gradrev_jax.serving.hub_metadata import CardChoices
from gradrev_jax.systems.objective import STAGES


def main() -> None:
    """Exports a run, publishes the model, or does both."""
    fields = default_config()
    cli.check_fields(protocol=fields.protocol, data=fields.data)
    workdir = cli.define_folder("workdir", "Folder of the run; unset: the model in --out is published.")
    out = cli.define_folder("out", "Folder of the model.", required=True)
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its step."
    )
    stage = flags.DEFINE_enum("stage", None, STAGES, "Stage to export; unset: the last of the run.")
    report = flags.DEFINE_string("report", None, "Name of the report that the card shows; unset: the run's.")
    license_name = flags.DEFINE_string("license", "unknown", "License of the model, as the hub calls it.")
    dataset = flags.DEFINE_string("dataset", None, "Data set that it was trained on, as the hub calls it.")
    photographs = flags.DEFINE_boolean(
        "photographs", False, "Whether the card shows photographs of the catalogue, with their names."
    )
    push = flags.DEFINE_string(
        "push", None, "Name to publish it under on the hub, OWNER/NAME; unset: it is not."
    )
    private = flags.DEFINE_boolean("private", False, "Whether a new name on the hub is for its owner alone.")
    read_protocol = cli.define_section(
        "protocol",
        fields.protocol,
        "Section of the config; --protocol.FIELD=VALUE overrides how garments are compared and edited.",
    )
    read_data = cli.define_section(
        "data",
        fields.data,
        "Section of the config; --data.FIELD=VALUE says where the catalogue lies now.",
    )

    def work() -> None:
        if workdir.value is None and push.value is None:
            raise ConfigError(
                "there is nothing to do: give --workdir to export a run, --push to publish, or both"
            )
        if workdir.value is not None:
            use_cache_of_run(workdir.value)
            export_model(
                workdir.value,
                out.value,
                step=step.value,
                stage=stage.value,
                protocol=read_protocol(),
                data=read_data(),
                card=CardChoices(license_name.value, dataset.value, report.value, photographs.value),
            )
            print(f"Model: {out.value}\nIts card: {out.value / CARD}")
        if push.value is not None:
            print(f"Published: {push_model(out.value, push.value, private=private.value)}")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
