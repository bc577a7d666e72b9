"""What the commands share: flags that are checked before anything runs, and errors that are one message."""

import difflib
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from gradrev_jax import processes
from gradrev_jax.errors import ConfigError, UserError, first_line
from gradrev_jax.workdir import flat_fields


def check_fields(**configs: ConfigDict) -> None:
    """End with a message where the command line sets a field that a config flag does not have.

    Call it before the flags are defined: ``DEFINE_config_dict`` reads the command line by itself.

    Args:
      **configs: for each config flag by name, the fields that it has.
    """
    if problem := unknown_field(sys.argv[1:], **configs):
        sys.exit(f"error: {problem}")


def define_config(fields: ConfigDict) -> Callable[[], ConfigDict]:
    """Define --config, a file of configs/, whose fields --config.FIELD overrides; returns what reads it.

    Args:
      fields: all that there are.
    """
    check_fields(config=fields)
    if problem := repeated_config(sys.argv[1:], "config"):
        sys.exit(f"error: {problem}")
    holder = config_flags.DEFINE_config_file("config", help_string="A file of configs/.", lock_config=True)
    flags.mark_flag_as_required("config")

    def read() -> ConfigDict:
        file = config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]
        if not pathlib.Path(file).is_file():
            raise ConfigError(f"--config={file} does not exist; this project's are in configs/")
        return holder.value

    return read


def define_processes() -> Callable[[], None]:
    """Define the flags that make a command one of several processes; returns what makes it that."""
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT on which the first of several processes listens for the others."
    )
    flags.DEFINE_integer("num_processes", None, "How many processes do this together.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)
    flags.DEFINE_boolean("cluster", False, "Whether Slurm, Open MPI or the like says so, instead.")

    def join() -> None:
        given = flags.FLAGS
        processes.join(given.coordinator, given.num_processes, given.process_id, cluster=given.cluster)

    return join


def run(work: Callable[..., None], *, arguments: bool = False) -> None:
    """Parse the command line and do the work; what the user can put right ends in a message, not a traceback.

    Args:
      work: reads the flags' values; is given the arguments that are no flags, where it takes any.
      arguments: whether it does.
    """

    def parse(line: Sequence[str]) -> Sequence[str]:
        try:
            rest = flags.FLAGS(line)
        except flags.Error as error:
            sys.exit(f"error: {_last_line(error)}\nPass --help to see the flags.")
        if len(rest) > 1 and not arguments:
            sys.exit(f"error: unknown arguments: {' '.join(rest[1:])}")
        return rest

    def main(rest: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)  # Orbax tells much; --verbosity=0 shows it
        try:
            work(*([rest[1:]] if arguments else []))
        except KeyboardInterrupt:
            _end("interrupted; give the same command again to go on")
        except Exception as error:
            if not processes.lost_another(error):
                if isinstance(error, UserError):
                    _end(f"error: {error}")
                raise
            _end(
                f"error: another process of this run has ended: {first_line(error)}\nWhat it said tells why. "
                "Start all processes again with the same --workdir to go on from the latest checkpoint."
            )

    app.run(main, flags_parser=parse)


def _end(message: str) -> None:
    """End with a message; one of several processes at once, without waiting for those that may be gone."""
    if not processes.joined():
        sys.exit(message)
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def unknown_field(arguments: Sequence[str], **configs: ConfigDict) -> str | None:
    """What is wrong with the first argument that sets a field its config does not have; None if all exist.

    ml_collections notices too, but answers with a traceback and without the fields of other sections.

    Example:
      >>> unknown_field(["--config.train.epoch=3"], config=ConfigDict({"train": {"epochs": 25}}))
      'the config has no field train.epoch; did you mean train.epochs?'
    """
    for argument in arguments:
        found = re.match(r"--?(\w+)\.([^=]+)", argument)
        if not found or found[1] not in configs:
            continue
        known = list(flat_fields(configs[found[1]].to_dict()))
        if found[2] not in known:
            near = difflib.get_close_matches(found[2], known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "configs/default.py has all there are"
            return f"the {found[1]} has no field {found[2]}; {hint}"
    return None


def repeated_config(arguments: Sequence[str], name: str) -> str | None:
    """What is wrong where a config flag is given more than once and fields of it are set; None where not.

    Without fields the last file counts. With them ml_collections answers that a field is defined twice.

    Example:
      >>> repeated_config(["--config=a.py", "--config.seed=1", "--config", "b.py"], "config")
      '--config is given 2 times, a.py and b.py, of which --config.seed would be a field; give it once'
    """
    files, fields = [], []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if found := re.match(rf"--?{name}(=|$)", argument):
            files.append(argument[found.end() :] if found[1] else following)
        elif found := re.match(rf"--?{name}\.[^=]+", argument):
            fields.append(found[0])
    if len(files) < 2 or not fields:
        return None
    return (
        f"--{name} is given {len(files)} times, {' and '.join(files)}, of which {fields[0]} would be "
        "a field; give it once"
    )


def _last_line(error: Exception) -> str:
    """The reason at the end of an error that quotes a traceback."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
