"""Puts a run's gallery into a vector engine: gradrev-index --workdir=runs/mine --engine=milvus:mine.db.

Searches give --engine the same, and then find their candidates there. What was interrupted goes on when the
command is given again.
"""

from absl import flags

from gradrev_commands import cli
from gradrev_jax.data.catalogue import PARTS
from gradrev_jax.errors import naming
from gradrev_jax.runs.compilation_cache import use_cache_of_run
from gradrev_jax.runs.fields.table import default_config
from gradrev_jax.serving.engine_runs import index_run


def main() -> None:
    """Fills an engine with the gallery of a run, and says how many garments it holds."""
    fields = default_config()
    cli.check_fields(protocol=fields.protocol, data=fields.data)
    workdir = cli.define_folder("workdir", "Folder of the run, which has its config.", required=True)
    engine = flags.DEFINE_string(
        "engine",
        None,
        "The engine: milvus:PATH.db, a folder on this machine, or milvus:http://HOST:PORT, a server; with "
        "#NAME behind it a collection of its own.",
        required=True,
    )
    parts = flags.DEFINE_list("parts", ["test"], f"Parts that are searched, of {', '.join(PARTS)}.")
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its step."
    )
    index = flags.DEFINE_string(
        "index", "FLAT", "Index of the engine: FLAT, which compares all, or HNSW, which is approximate."
    )
    read_protocol = cli.define_section(
        "protocol",
        fields.protocol,
        "Section of the config; --protocol.FIELD=VALUE overrides a field, for example "
        "--protocol.representation=posterior.",
    )
    read_data = cli.define_section(
        "data",
        fields.data,
        "Section of the config; --data.FIELD=VALUE says where the catalogue lies now, for example "
        "--data.root=FOLDER.",
    )

    def work() -> None:
        use_cache_of_run(workdir.value)
        with naming("--{}"):
            count = index_run(
                workdir.value,
                engine.value,
                parts=parts.value,
                step=step.value,
                protocol=read_protocol(),
                data=read_data(),
                index=index.value,
            )
        print(f"{engine.value} holds all {count:,} garments")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
