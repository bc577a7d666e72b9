"""Finds and loads config files, from whichever folder a command is started."""

import contextlib
import difflib
import importlib.machinery
import importlib.util
import inspect
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from gradrev_jax.errors import ConfigError, UserError, first_line
from gradrev_jax.files import expand

CONFIGS = "configs"
PROJECT = pathlib.Path(__file__).resolve().parents[1]  # where train.py and configs/ are, unless installed
INSTALLED = pathlib.Path(__file__).resolve().parent / CONFIGS  # where a wheel has them
SHIPPED = INSTALLED if INSTALLED.is_dir() else PROJECT / CONFIGS


def find_config(path: str) -> pathlib.Path:
    """Finds a config file: in the current folder, in the folder of the project, or among the shipped configs.

    Args:
      path: the path of a file, for example ``configs/garments.py``, or the name of a shipped config, for
        example ``garments``.

    Raises:
      ConfigError: there is no such file; the message has the nearest names.
    """
    given = expand(path, "--config")
    tried = [given.absolute(), PROJECT / given]
    if given.parts[:-1] in ((), (CONFIGS,)):
        tried.append(SHIPPED / (given.name if given.suffix else f"{given.name}.py"))
    for file in tried:
        if file.is_file():
            return file
    state = "is a folder" if any(file.is_dir() for file in tried) else "does not exist"
    raise ConfigError(f"--config={path} {state}; {_near(given)}")


def read_config(file: pathlib.Path, word: str | None = None) -> ConfigDict:
    """Calls the ``get_config`` of a config file and locks the config that it returns.

    The file can import the shipped configs (``from configs import default``) and other files of its folder as
    modules of ``configs``, even if the command was started in a folder with another package of that name.

    Args:
      file: the Python file.
      word: the argument of ``get_config``; None: it is called without arguments.

    Raises:
      ConfigError: the file cannot be loaded or has no usable ``get_config``; the message has the line.
    """
    arguments = () if word is None else (word,)
    with _as_configs([SHIPPED, file.parent]), _located(file):
        get_config = getattr(_load(file), "get_config", None)
        if not callable(get_config):
            raise ConfigError(
                f"{file} has no function get_config; {SHIPPED / 'garments.py'} shows what a config looks like"
            )
        try:
            inspect.signature(get_config).bind(*arguments)
        except TypeError as error:
            called = f"with the word {word!r}" if arguments else "without a word after the config's name"
            raise ConfigError(f"{file}: get_config cannot be called {called}: {error}") from error
        config = get_config(*arguments)
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{file}: get_config returned {type(config).__name__}, not a ConfigDict")
    return config.lock()


def _near(given: pathlib.Path) -> str:
    """Returns a hint for a config that does not exist: the nearest names, or all names."""
    beside = {str(given.with_name(file.name)): file.stem for file in given.absolute().parent.glob("*.py")}
    own = {_shipped_name(file): file.stem for file in sorted(SHIPPED.glob("*.py"))}
    known = {**beside, **own}
    stems = difflib.get_close_matches(given.stem, known.values(), n=3, cutoff=0.6)
    near = [name for name, stem in known.items() if stem in stems]
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    return f"there are {', '.join(own)}" if own else "give a file of Python with a function get_config"


def _shipped_name(file: pathlib.Path) -> str:
    """Returns the argument for a shipped config: its file in the project, or its name if it is installed."""
    return file.stem if SHIPPED == INSTALLED else f"{CONFIGS}/{file.name}"


def _load(file: pathlib.Path) -> types.ModuleType:
    loader = importlib.machinery.SourceFileLoader(f"{CONFIGS}.{file.stem}", str(file))
    spec = importlib.util.spec_from_file_location(loader.name, file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


@contextlib.contextmanager
def _as_configs(folders: Sequence[pathlib.Path]) -> Iterator[None]:
    """Makes ``configs`` a package of exactly these folders inside the block."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == CONFIGS}
    package = types.ModuleType(CONFIGS)
    package.__path__ = [str(folder) for folder in folders]
    try:
        for name in before:
            del sys.modules[name]
        sys.modules[CONFIGS] = package
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == CONFIGS]:
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def _located(file: pathlib.Path) -> Iterator[None]:
    """Converts an error in a config file to one line with its place in the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
        ]
        place = f"{file}, line {lines[-1]}" if lines else f"{file}"
        reason = first_line(error)
        if isinstance(error, SyntaxError):
            place, reason = f"{error.filename}, line {error.lineno}", error.msg
        raise ConfigError(f"{place}: {type(error).__name__}: {reason}") from error
