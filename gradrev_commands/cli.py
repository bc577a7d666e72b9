"""What the commands share: flags that are checked before anything runs, and errors that are one message."""

import difflib
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from gradrev_commands import config_files
from gradrev_commands.terminal import safe_output
from gradrev_jax import distributed
from gradrev_jax.errors import PLATFORMS, ConfigError, UserError, first_line
from gradrev_jax.files import check_folder, expand
from gradrev_jax.runs.workdir import flat_fields

flags.disclaim_key_flags()  # so that --help lists them under the command, and not under this module


def check_fields(**configs: ConfigDict) -> None:
    """End with a message where the command line sets a field that a config flag does not have.

    Call it before the flags are defined: ``DEFINE_config_dict`` reads the command line by itself.

    Args:
      **configs: for each config flag by name, the fields that it has.
    """
    if problem := unknown_field(sys.argv[1:], **configs):
        sys.exit(f"error: {problem}")


def define_config() -> Callable[[], ConfigDict]:
    """Defines --config, whose fields --config.FIELD overrides; returns a function that reads it."""
    holder = config_flags.DEFINE_config_file("config", help_string="A file of configs/, or one like them.")
    flags.FLAGS["config"].parser = _ConfigParser()
    flags.mark_flag_as_required("config")

    def read() -> ConfigDict:
        config = holder.value
        make_absolute(config)
        return config

    return read


class _ConfigParser(flags.ArgumentParser):
    """Loads a config file, as ml_collections' parser does, but names what is wrong in one message."""

    def parse(self, argument: str) -> ConfigDict:
        """Returns the config of ``FILE`` or ``FILE:WORD``; its fields are those that may be overridden."""
        flag = flags.FLAGS["config"]
        if flag.present and any(re.match(r"--?config\.", each) for each in sys.argv):
            first = config_flags.get_config_filename(flag)
            raise ConfigError(f"--config is given twice, as {first} and as {argument}; give one")
        path, separator, word = argument.partition(":")
        config = config_files.read_config(config_files.find_config(path), word if separator else None)
        if problem := unknown_field(sys.argv[1:], config=config):
            raise ConfigError(problem)
        return config


def make_absolute(config: ConfigDict) -> None:
    """Makes the paths of a config whole, so that a run finds its data wherever it is evaluated.

    ``data.splits`` is relative to ``data.root`` and stays so.

    Raises:
      ConfigError: a home folder is not known.

    Example:
      >>> config = ConfigDict({"data": {"root": "/images/", "splits": "splits"}})
      >>> make_absolute(config)
      >>> config.data.root, config.data.splits
      ('/images', 'splits')
    """
    data = config.get("data", {})
    for field in ("root", "tfds_dir", "cache_dir"):
        if data.get(field):
            data[field] = str(expand(data[field], f"data.{field}").absolute())
    if data.get("splits"):
        data.splits = str(expand(data.splits, "data.splits"))


def define_folder(
    name: str, text: str, *, required: bool = False, written: bool = False
) -> flags.FlagHolder[Any]:
    """Defines a flag whose value is the path of a folder, with ``~`` expanded.

    Args:
      name: of the flag, without dashes.
      text: for --help.
      required: whether it must be given.
      written: whether the command writes there; then the folder is checked before anything runs.
    """
    parser = _PathParser(f"--{name}", folder=True, written=written)
    return flags.DEFINE(parser, name, None, text, required=required)


def define_file(name: str, text: str, *, required: bool = False) -> flags.FlagHolder[Any]:
    """Defines a flag whose value is the path of a file, with ``~`` expanded."""
    return flags.DEFINE(_PathParser(f"--{name}"), name, None, text, required=required)


class _PathParser(flags.ArgumentParser):
    def __init__(self, name: str, *, folder: bool = False, written: bool = False) -> None:
        self.name, self.folder, self.written = name, folder, written

    def parse(self, argument: str) -> pathlib.Path:
        path = expand(argument, self.name)
        if self.folder:
            check_folder(path, self.name, written=self.written)
        return path


def command_line(command: str, *arguments: str) -> str:
    """Returns what to type to run another of the commands, in the way in which this one was run.

    Args:
      command: ``train`` or ``evaluate``.
      *arguments: of the command line.

    Example:
      >>> command_line("evaluate", "--workdir=my runs/a").split(maxsplit=1)[0]
      'python'
    """
    if pathlib.Path(sys.argv[0]).name.startswith("gradrev-"):
        return shlex.join([f"gradrev-{command}", *arguments])
    script = f"{command}.py"
    whole = config_files.PROJECT / script
    elsewhere = whole.is_file() and pathlib.Path(script).resolve() != whole
    return shlex.join(["python", str(whole) if elsewhere else script, *arguments])


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
        distributed.initialize(
            given.coordinator, given.num_processes, given.process_id, cluster=given.cluster
        )

    return join


def run(work: Callable[..., None], *, description: str | None = None, arguments: bool = False) -> None:
    """Parse the command line and do the work; what the user can put right ends in a message, not a traceback.

    Args:
      work: reads the flags' values; is given the arguments that are no flags, where it takes any.
      description: of the command, for --help.
      arguments: whether ``work`` takes them.
    """
    if sys.platform == "win32":
        sys.exit(f"error: {PLATFORMS}")
    _show_in_help(description)

    def parse(line: Sequence[str]) -> Sequence[str]:
        try:
            os.getcwd()
        except FileNotFoundError:
            sys.exit("error: the current folder has been removed; change to one that exists")
        try:
            rest = flags.FLAGS(line)
        except flags.Error as error:
            if isinstance(error.__context__, UserError):  # raised by a parser of ours
                sys.exit(f"error: {error.__context__}")
            if isinstance(error, flags.UnrecognizedFlagError) and error.flagname.startswith("config."):
                sys.exit(f"error: --{error.flagname} is given without a --config=FILE before it")
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
            if not distributed.is_peer_failure(error):
                if isinstance(error, UserError):
                    _end(f"error: {error}")
                if problem := distributed.missing_device():
                    _end(f"error: {problem}")
                raise
            _end(
                f"error: another process of this run has ended: {first_line(error)}\nWhat it said tells why. "
                "Start all processes again with the same --workdir to go on from the latest checkpoint."
            )

    with safe_output():
        app.run(main, flags_parser=parse)


def _show_in_help(description: str | None) -> None:
    """Makes --help show a command's description and flags, whichever file the command was started by."""
    sys.modules["__main__"].__doc__ = description
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(__package__):
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _end(message: str) -> None:
    """End with a message; one of several processes at once, without waiting for those that may be gone."""
    if not distributed.is_multi_process():
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


def _last_line(error: Exception) -> str:
    """The reason at the end of an error that quotes a traceback."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
