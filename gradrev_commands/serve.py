"""Serves a run as a page and a JSON API: gradrev-serve --workdir=runs/garments."""

import importlib.util
import os
from collections.abc import Sequence

from absl import flags

from gradrev_commands import cli
from gradrev_jax.errors import ConfigError, naming
from gradrev_jax.runs.compilation_cache import use_cache_of_run
from gradrev_jax.runs.fields.table import default_config

NEEDS = ("python_multipart", "starlette", "uvicorn")


def check_installed() -> None:
    """Raises unless what the page needs is installed.

    Raises:
      ConfigError: something is not; the message has how to install it.
    """
    missing = [name.replace("_", "-") for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the page needs {', '.join(missing)}, not installed here: pip install 'gradrev_jax[demo]'"
        )


def main() -> None:
    """Opens a run's gallery and answers on a port until Ctrl-C."""
    fields = default_config()
    cli.check_fields(protocol=fields.protocol, data=fields.data)
    workdir = cli.define_folder("workdir", "Folder of the run, which has its config.", required=True)
    host = flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "Address to listen on. Whoever can reach it can search the gallery: this one is for this machine "
        "alone, 0.0.0.0 for all of its network.",
    )
    port = flags.DEFINE_integer(
        "port", 8000, "Port to listen on; 0: any that is free.", lower_bound=0, upper_bound=65535
    )
    allowed = flags.DEFINE_multi_string(
        "allow_host", [], "Name of a site whose proxy on this machine passes requests on; may be repeated."
    )
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its step."
    )
    parts = flags.DEFINE_list("parts", ["test"], "Parts of the catalogue that the gallery has, with commas.")
    engine = flags.DEFINE_string(
        "engine", None, "Engine that index.py has filled: milvus:PATH.db or milvus:http://HOST:PORT."
    )
    read_protocol = cli.define_section(
        "protocol",
        fields.protocol,
        "Section of the config; --protocol.FIELD=VALUE compares and edits garments in another way than the "
        "run's own, for example --protocol.representation=posterior.",
    )
    read_data = cli.define_section(
        "data",
        fields.data,
        "Section of the config; --data.FIELD=VALUE says where the catalogue lies now, for example "
        "--data.root=FOLDER.",
    )

    def work() -> None:
        check_installed()
        from gradrev_jax.serving.web.run import serve_run

        use_cache_of_run(workdir.value)
        with naming("--{}"):
            serve_run(
                workdir.value,
                host=host.value,
                port=port.value,
                proxied=allowed.value,
                parts=parts.value,
                step=step.value,
                protocol=read_protocol(),
                data=read_data(),
                engine=engine.value,
                ready=lambda url, items: _tell_address(url, items, parts.value),
            )
        os._exit(0)  # without waiting for threads that compile, encode or search

    cli.run(work, description=__doc__)


def _tell_address(url: str, num_items: int, parts: Sequence[str]) -> None:
    """Prints where the page is, and what it searches."""
    print(f"{num_items:,} garments at {url} (--parts={','.join(parts)}; Ctrl-C to end)", flush=True)


if __name__ == "__main__":
    main()
