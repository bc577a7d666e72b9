"""Shared by the commands: flags that are checked before anything runs, and one start for all."""

import functools
import gc
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from gradrev_commands import config_files, optional_fields, signals
from gradrev_commands.endings import DEBUG, ends_in_words
from gradrev_commands.plugins import load_plugins
from gradrev_commands.terminal import safe_output
from gradrev_jax import distributed
from gradrev_jax.errors import PLATFORMS, ConfigError, UserError, WorkdirError, did_you_mean
from gradrev_jax.files import check_folder, expand
from gradrev_jax.runs.workdir import flat_fields

CONFIG_HELP = (
    "A shipped config by its name (garments) or a config file by its path; with a colon and a word behind it "
    "if the config takes one (catalogue:cpu). --config.FIELD=VALUE overrides a field, for example "
    "--config.train.epochs=3."
)

flags.disclaim_key_flags()  # --help lists the flags under the command, not under this module


def check_fields(**configs: ConfigDict) -> None:
    """Ends the command if the command line sets a field that its config does not have.

    It must be called before the flags are defined, because ``DEFINE_config_dict`` reads the command line.

    Args:
      **configs: the configs by the names of their flags.
    """
    with ends_in_words():
        if problem := unknown_field(sys.argv[1:], **configs):
            raise ConfigError(problem)


def define_config() -> Callable[[], ConfigDict]:
    """Defines --config, whose fields --config.FIELD overrides; returns a function that reads it."""
    optional_fields.register()
    holder = config_flags.DEFINE_config_file("config", help_string=CONFIG_HELP)
    flags.FLAGS["config"].parser = _ConfigParser()
    _hide_default("config")
    flags.mark_flag_as_required("config")

    def read() -> ConfigDict:
        config = holder.value
        make_absolute(config)
        return config

    return read


class _ConfigParser(flags.ArgumentParser):
    """A parser that loads a config file like that of ml_collections, but reports errors in one message."""

    def parse(self, argument: str) -> ConfigDict:
        """Returns the config of ``FILE`` or ``FILE:WORD``, after checking the overrides of its fields."""
        flag = flags.FLAGS["config"]
        if flag.present and any(re.match(r"--?config\.", each) for each in sys.argv):
            first = config_flags.get_config_filename(flag)
            raise ConfigError(f"--config is given twice, as {first} and as {argument}; give one")
        path, separator, word = argument.partition(":")
        config = config_files.read_config(config_files.find_config(path), word if separator else None)
        if problem := unknown_field(sys.argv[1:], config=config):
            raise ConfigError(problem)
        return config


def define_section(name: str, fields: ConfigDict, text: str) -> Callable[[], dict[str, Any]]:
    """Defines a flag for one section of a config; returns a function that returns the overridden fields.

    Args:
      name: the name of the flag, without dashes; --NAME.FIELD overrides a field.
      fields: the fields and their defaults.
      text: the description for --help.
    """
    optional_fields.register()
    config_flags.DEFINE_config_dict(name, fields, text)
    _hide_default(name)
    return lambda: config_flags.get_override_values(flags.FLAGS[name])


def _hide_default(name: str) -> None:
    """Removes the default of a config flag from --help, which would print all of its fields."""
    flags.FLAGS[name].default_as_str = None


def make_absolute(config: ConfigDict) -> None:
    """Makes the paths of a config absolute, so that a run finds its data wherever it is evaluated.

    ``data.splits`` is relative to ``data.root`` and remains relative.

    Args:
      config: the config, which is changed in place.

    Raises:
      ConfigError: a home folder is not known.

    Example:
      >>> config = ConfigDict({"data": {"root": "/images/", "splits": "splits"}})
      >>> make_absolute(config)
      >>> config.data.root, config.data.splits
      ('/images', 'splits')
    """
    data = config.get("data", {})
    for field in ("root", "embeddings", "tfds_dir", "cache_dir"):
        if data.get(field):
            data[field] = str(expand(data[field], f"data.{field}").absolute())
    if data.get("splits"):
        data.splits = str(expand(data.splits, "data.splits"))
    if config.get("compilation_cache"):
        config.compilation_cache = str(expand(config.compilation_cache, "compilation_cache").absolute())


def define_folder(
    name: str, text: str, *, required: bool = False, written: bool = False
) -> flags.FlagHolder[Any]:
    """Defines a flag whose value is the path of a folder, with ``~`` expanded.

    Args:
      name: the name of the flag, without dashes.
      text: the description for --help.
      required: whether the flag must be given.
      written: whether the command writes to the folder; if so, parsing checks that it can.
    """
    parser = _PathParser(f"--{name}", folder=True, written=written)
    return flags.DEFINE(parser, name, None, text, required=required)


def define_file(name: str, text: str, *, required: bool = False) -> flags.FlagHolder[Any]:
    """Defines a flag whose value is the path of a file, with ``~`` expanded.

    Args:
      name: the name of the flag, without dashes.
      text: the description for --help.
      required: whether the flag must be given.
    """
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
    """Returns the line that runs another command in the same way as this one was run.

    Args:
      command: the name of the command, ``train`` or ``evaluate``.
      *arguments: the arguments of the line.

    Example:
      >>> command_line("evaluate", "--workdir=my runs/a").split(maxsplit=1)[0]
      'python'
    """
    if pathlib.Path(sys.argv[0]).name.startswith("gradrev-"):
        return shlex.join([f"gradrev-{command}", *arguments])
    script = f"{command}.py"
    absolute = config_files.PROJECT / script
    is_elsewhere = absolute.is_file() and pathlib.Path(script).resolve() != absolute
    return shlex.join(["python", str(absolute) if is_elsewhere else script, *arguments])


def define_processes() -> Callable[[], None]:
    """Defines the multi-process flags; returns a function that initializes ``jax.distributed`` from them."""
    flags.DEFINE_string(
        "coordinator", None, "Address of the first process, HOST:PORT; unset: there is only one process."
    )
    flags.DEFINE_integer("num_processes", None, "Number of processes that share the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.", lower_bound=0)
    flags.DEFINE_boolean(
        "cluster", False, "Whether Slurm, Open MPI or another cluster supplies these three values."
    )

    def initialize() -> None:
        given = flags.FLAGS
        distributed.initialize(
            given.coordinator, given.num_processes, given.process_id, cluster=given.cluster
        )

    return initialize


def run(work: Callable[..., None], *, description: str | None = None, arguments: bool = False) -> None:
    """Parses the command line and calls a function; whatever it raises ends in words, see ``endings``.

    Args:
      work: the function, which reads the values of the flags. It receives a list of the positional arguments
        if ``arguments`` is true, and otherwise nothing.
      description: the description of the command for --help.
      arguments: whether the command takes positional arguments; if not, any are refused.
    """
    flags.DEFINE_boolean(DEBUG, False, "Whether an error shows its traceback.", flag_values=flags.FLAGS)
    _show_in_help(description)

    def parse(line: Sequence[str]) -> Sequence[str]:
        load_plugins()
        try:
            os.getcwd()
        except FileNotFoundError as error:
            raise WorkdirError("the current folder has been removed; change to one that exists") from error
        rest = _parse_flags(line)
        if len(rest) > 1 and not arguments:
            raise ConfigError(f"unknown arguments: {' '.join(rest[1:])}")
        return rest

    def main(rest: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            # Orbax logs a lot, and tracebacks of what it raises as well; --verbosity=0 shows it
            logging.set_verbosity(logging.FATAL)
        _keep_imported()
        work(*([rest[1:]] if arguments else []))

    with ends_in_words(), signals.handled(), safe_output():
        if sys.platform == "win32":
            raise UserError(PLATFORMS)
        app.run(main, flags_parser=parse)


@functools.cache  # once in a process
def _keep_imported() -> None:
    """Takes what is imported out of later garbage collections, which would look through it for nothing."""
    gc.freeze()


def _parse_flags(line: Sequence[str]) -> Sequence[str]:
    """Sets the flags of a command line and returns what is left of it.

    Raises:
      UserError: a flag cannot be used.
    """
    try:
        return flags.FLAGS(line)
    except flags.Error as error:
        if isinstance(error.__context__, UserError):  # raised by a parser of this module
            raise error.__context__ from None
        if isinstance(error, flags.UnrecognizedFlagError) and error.flagname.startswith("config."):
            message = f"--{error.flagname} is given without a --config=FILE before it"
        else:
            message = f"{_last_line(error)}\nPass --help to see the flags."
        raise ConfigError(message) from error
    except SystemExit as ended:
        shown = any(re.fullmatch(r"--?help(full|short|xml)?", each) for each in line)
        sys.exit(0 if shown else ended.code)  # absl ends with 1 after --help


def _show_in_help(description: str | None) -> None:
    """Makes --help show a command's description and flags, whichever file started the command."""
    sys.modules["__main__"].__doc__ = f"{(description or '').strip()}\n"
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(__package__):
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def unknown_field(arguments: Sequence[str], **configs: ConfigDict) -> str | None:
    """Returns an error message for the first argument that sets an unknown field; None if there is none.

    ml_collections finds such arguments too, but raises an error without the fields of other sections.

    Args:
      arguments: the command line.
      **configs: the configs by the names of their flags.

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
            hint = did_you_mean(found[2], known, otherwise="configs/default.py has all there are", cutoff=0.5)
            return f"the {found[1]} has no field {found[2]}; {hint}"
    return None


def _last_line(error: Exception) -> str:
    """Returns the last line of an error that quotes a traceback, which has the reason."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
