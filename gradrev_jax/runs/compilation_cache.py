"""Keeps compiled programs from one start to the next, in JAX's persistent compilation cache."""

import builtins
import contextlib
import glob
import hashlib
import os
import pathlib
import platform
import re
import stat
import warnings
import zlib
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from gradrev_jax.core.workers import usable_cores
from gradrev_jax.distributed import say
from gradrev_jax.errors import UserError, WorkdirError
from gradrev_jax.files import expand
from gradrev_jax.runs import workdir
from gradrev_jax.runs.eviction import beyond_limits
from gradrev_jax.runs.pixels import cache_folder

FIELD = "compilation_cache"
PROGRAMS = "programs"  # the folder within the user's cache folder
# What is left of the cache at a start, in bytes and in programs.
MOST_BYTES, MOST_PROGRAMS = 512 * 2**20, 5000
QUIET_SINCE = (0, 10, 2)  # JAX 0.10.0 prints two kilobytes on stderr for each program that it reads
ENABLED, DIRECTORY = "jax_enable_compilation_cache", "jax_compilation_cache_dir"
SETTINGS = {
    # With a largest size, JAX looks at every file whenever it adds one, and an evaluation adds hundreds.
    "jax_compilation_cache_max_size": -1,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    # What XLA keeps by itself has no bound, and makes the folder's path a part of every key.
    "jax_persistent_cache_enable_xla_caches": "none",
}
PROGRAM, USED = "-cache", "-atime"  # how JAX's files end; the latter only where a largest size is set
ZLIB = b"\x78"  # the first byte of what zlib has compressed
PROBLEM = re.compile(
    r"Error (?P<what>reading|writing) persistent compilation cache entry for '(?P<name>.*?)': "
    r"(?P<reason>(?P<kind>\w+).*)",
    re.DOTALL,
)


def use_compilation_cache(given: str | None) -> None:
    """Enables JAX's persistent compilation cache, for what this process compiles from now on.

    This changes settings of JAX for the whole process, so commands do it, and no other function of the
    library. A cache that the environment or the process has chosen remains. A folder that cannot be used is
    a note and no error: programs are then compiled as if there were no cache.

    Args:
      given: the folder; None: ``programs`` in gradrev_jax's part of the user's cache folder, or none with a
        JAX that is not quiet about it; empty: none.

    Example:
      >>> use_compilation_cache("")
    """
    if given == "" or not _setting(ENABLED) or _setting(DIRECTORY):
        return
    if given is None and jax.__version_info__ < QUIET_SINCE:
        return
    try:
        folder = programs_folder(given)
        _prepare(folder)
    except (OSError, UserError) as error:
        hint = f"{FIELD}=FOLDER keeps them elsewhere, {FIELD}='' nowhere"
        say(f"compiled programs are not kept: {error}; {hint}")
        return
    for name, value in SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    jax.config.update(DIRECTORY, str(folder))
    _watch(folder)


def use_cache_of_run(directory: pathlib.Path) -> None:
    """Enables the compilation cache in the folder that the config of a run names.

    Args:
      directory: the run's folder; without a config, programs lie where they do by default.
    """
    use_compilation_cache(cache_of_run(directory))


def cache_of_run(directory: pathlib.Path) -> str | None:
    """Returns the folder that the config of a run names; None also where there is no config to read.

    A model to share never says where programs lie, because they would be run.

    Args:
      directory: the run's folder.

    Example:
      >>> cache_of_run(pathlib.Path("/no/such/run"))
    """
    try:
        given = workdir.read_config(directory).get(FIELD)
    except WorkdirError:
        return None  # which whoever opens the run says
    return given if isinstance(given, str) else None


def programs_folder(given: str | None = None) -> pathlib.Path:
    """Returns the folder of the programs that are compiled on this machine.

    Args:
      given: the folder that has one such folder per machine; None: that in the user's cache folder.

    Raises:
      ConfigError: the user has no home folder, and the path needs one.

    Example:
      >>> programs_folder("/scratch/programs").parent.as_posix()
      '/scratch/programs'
    """
    parent = expand(given, FIELD) if given else cache_folder("") / PROGRAMS
    return parent / _machine()


def _setting(name: str) -> Any:
    """Returns the value of one of JAX's settings."""
    return getattr(jax.config, name)


def _machine() -> str:
    """Returns a digest of what a CPU's program depends on and JAX's own keys leave out.

    These keys hold the program, the versions, flags and devices. But a program that was compiled for one
    processor may use instructions that another one lacks, and is divided among that processor's cores.
    """
    parts = [platform.machine(), _processor(), str(usable_cores()), os.environ.get("NPROC", "")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Returns the processor's model and instruction sets; where they are not known, this machine's name."""
    names = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant", "isa", "uarch")
    found: list[str] = []
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip() and found:
                break  # the other cores are the same
            if line.partition(":")[0].strip() in names:
                found.append(line)
    return "".join(found) or platform.node()


def _prepare(folder: pathlib.Path) -> None:
    """Makes the folder of the programs, for this user alone, and removes those that are too many.

    Raises:
      OSError: it cannot be written to, or others can, whose programs this process would run.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {folder}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(f"this user may not write to {folder}")
    _tidy(folder)


def _tidy(folder: pathlib.Path) -> None:
    """Removes the least recently used programs if there are too many, or if they are too large together."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another process may remove it meanwhile
                if entry.name.endswith(PROGRAM):
                    status = entry.stat()
                    found.append((max(status.st_atime, status.st_mtime), status.st_size, entry.name))
    for name in beyond_limits(found, most_bytes=MOST_BYTES, most_files=MOST_PROGRAMS):
        _remove(folder / name)


def _remove(program: pathlib.Path) -> None:
    program.unlink(missing_ok=True)
    program.with_name(program.name.removesuffix(PROGRAM) + USED).unlink(missing_ok=True)


def _watch(folder: pathlib.Path) -> None:
    """Handles JAX's warnings of entries that cannot be read or written, instead of showing them."""
    show = warnings.showwarning

    def showwarning(message: Warning | str, *arguments: Any, **named: Any) -> None:
        problem = PROBLEM.match(str(message))
        if problem is None:
            show(message, *arguments, **named)
        elif _setting(DIRECTORY) == str(folder):
            _handle(problem, folder)

    warnings.showwarning = showwarning
    warnings.filterwarnings("always", PROBLEM.pattern, UserWarning)


def _handle(problem: re.Match[str], folder: pathlib.Path) -> None:
    """Removes a damaged program, so that JAX compiles it anew; after any other problem, disables the cache.

    A program also looks damaged while another process writes it, or if that process was killed meanwhile: JAX
    writes files in place, and never replaces one.
    """
    if problem["what"] == "reading" and _is_damage(problem["kind"]):
        with contextlib.suppress(OSError):
            programs = list(folder.glob(f"{glob.escape(problem['name'])}-*{PROGRAM}"))
            for program in [each for each in programs if not _is_whole(each)] or programs:
                _remove(program)
            return
    jax.config.update(DIRECTORY, None)
    compilation_cache.reset_cache()
    say(f"compiled programs are no longer kept in {folder}: {problem['reason'].splitlines()[0]}")


def _is_damage(kind: str) -> bool:
    """Returns whether an error of some kind is due to what a file holds, and not to the system.

    Args:
      kind: the name of the error's class.
    """
    error = getattr(builtins, kind, None)
    return not (isinstance(error, type) and issubclass(error, OSError))


def _is_whole(program: pathlib.Path) -> bool:
    """Returns whether a file is as zlib has compressed it; False also where something else has."""
    content = program.read_bytes()
    with contextlib.suppress(zlib.error):
        return content.startswith(ZLIB) and bool(zlib.decompress(content))
    return False
