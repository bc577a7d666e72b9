"""Fuzz targets, and trials of them: a reader is given mutated files and must read or refuse them.

A target makes small good files; a ``Trial`` mutates copies of them, one input per number, and says what
became of each. ``python -m tests.faults.fuzz`` runs many in watched processes, and the default
suite a few hundred.
"""

import contextlib
import dataclasses
import importlib
import pathlib
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from gradrev_jax.errors import UserError
from tests.faults.mutations import mutate

SECONDS = 10  # the time limit of one input
READ, REFUSED, FAILED = "read", "refused", "failed"
SECRET = "secret.jpg"  # a good image beside the folder of a target, which no reader may open


def all_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns all regular files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader to be fuzzed.

    Attributes:
      name: the name, as in ``--targets``.
      make: writes good input into an empty folder; it may make a link ``link.jpg`` to ``../secret.jpg``.
      read: reads the folder, and asserts what it can about the result; it may raise ``refusals`` alone.
      files: the files of the folder that are mutated.
      refusals: the errors that refuse an input.
      named: whether a refusal must name the folder or a file in it.
    """

    name: str
    make: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], object]
    files: Callable[[pathlib.Path], list[pathlib.Path]] = all_files
    refusals: tuple[type[Exception], ...] = (UserError,)
    named: bool = True


class Hang(BaseException):
    """Raised in a reader whose time is over; no ``except Exception`` keeps it."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of one input.

    Attributes:
      result: read, refused or failed.
      reason: the message of the refusal or the failure.
    """

    result: str
    reason: str = ""


class Trial:
    """Mutates the good files of a target, one input per number, and lets the target read them.

    Args:
      target: the target.
      work: a folder; the files lie in ``work/input``, and ``work/secret.jpg`` must not be read.
      seed: the seed; an input depends on it, on the target's name and on its own number alone.
    """

    def __init__(self, target: Target, work: pathlib.Path, seed: int = 0) -> None:
        self.target, self.work, self.seed = target, work, seed
        self.folder = work / "input"
        self.folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(work / SECRET)
        target.make(self.folder)
        self._paths = target.files(self.folder)
        self._good = {path: path.read_bytes() for path in all_files(self.folder)}
        assert self._paths, f"{target.name} has no file to mutate"

    def good_files(self) -> dict[pathlib.Path, bytes]:
        """Returns the files that are mutated, each with its good content."""
        return {path: self._good[path] for path in self._paths}

    def check_good(self) -> None:
        """Reads the files as they were made; raises what the target raises."""
        self.target.read(self.folder)

    def mutated(self, number: int) -> dict[pathlib.Path, bytes]:
        """Returns the content of the files that one input changes."""
        rng = random.Random(f"{self.seed}/{self.target.name}/{number}")
        chosen = rng.sample(self._paths, min(rng.choice((1, 1, 1, 1, 2, 3)), len(self._paths)))
        return {path: mutate(self._good[path], self._good[rng.choice(self._paths)], rng) for path in chosen}

    def run(self, number: int) -> Outcome:
        """Writes one input, lets the target read it, and puts the good files back."""
        return self.run_files(self.mutated(number))

    def run_files(self, contents: dict[pathlib.Path, bytes]) -> Outcome:
        """Does the same for given contents."""
        for path, content in contents.items():
            path.write_bytes(content)
        try:
            return self._attempt()
        finally:
            self._restore(contents)

    def _attempt(self) -> Outcome:
        try:
            with time_limit(SECONDS):
                self.target.read(self.folder)
            return Outcome(READ)
        except Hang:
            return Outcome(FAILED, f"hang: not done after {SECONDS} s")
        except self.target.refusals as error:
            message = f"{type(error).__name__}: {error}"
            if not str(error).strip():
                return Outcome(FAILED, f"refused without a word: {type(error).__name__}")
            if self.target.named and not self._names_file(message):
                return Outcome(FAILED, f"refused without the name of a file: {message}")
            return Outcome(REFUSED, message)
        except MemoryError as error:
            return Outcome(FAILED, f"memory: {error}")
        except Exception as error:
            return Outcome(FAILED, describe_error(error))

    def _names_file(self, message: str) -> bool:
        inner = [path.relative_to(self.folder).parts for path in self._good]
        names = [str(self.folder), *(part for parts in inner for part in parts)]
        return any(name in message for name in names)

    def _restore(self, contents: dict[pathlib.Path, bytes]) -> None:
        """Puts the good files back, and removes what the reader may have written."""
        for path in contents:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._good[path])
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path not in self._good:
                path.unlink()
        for path, content in self._good.items():
            if not path.exists() or path.stat().st_size != len(content):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.work, ignore_errors=True)


def describe_error(error: BaseException) -> str:
    """Returns the type and the message of an error, and the last places of its traceback in the package."""
    places, traceback = list[str](), error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    ours = [place for place in places if "gradrev_jax/" in place] or places
    return f"{type(error).__name__}: {str(error)[:300]} | {' <- '.join(reversed(ours[-3:]))}"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises ``Hang`` in the block when its time is over; does nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signal_number: int, frame: Any) -> None:
        raise Hang

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def find_target(name: str) -> Target:
    """Returns a target by its name; ``MODULE:NAME`` is one of a module that is not among the usual ones."""
    module, _, inner = name.rpartition(":")
    return importlib.import_module(module).TARGETS[inner] if module else load_targets()[name]


def load_targets() -> dict[str, Target]:
    """Returns the targets of all modules of ``tests/faults/targets``, by name."""
    targets: dict[str, Target] = {}
    for path in sorted((pathlib.Path(__file__).parent / "targets").glob("*_targets.py")):
        module = importlib.import_module(f"tests.faults.targets.{path.stem}")
        assert not targets.keys() & module.TARGETS.keys(), f"{path}: a name stands twice"
        targets.update(module.TARGETS)
    return targets
