"""Defines what a logger is, and what it knows of the run that it records."""

import contextlib
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

PROJECT = "gradrev_jax"  # where the environment names no other


class Recorded(NamedTuple):
    """Represents the run that a logger records.

    Attributes:
      directory: the run's folder.
      config: its fields, by dotted name.
      id: what the tracker called this run when it was begun there; None: it is not there yet.
      records: the number of records that the tracker has been told so far.
    """

    directory: pathlib.Path
    config: Mapping[str, Any]
    id: str | None = None
    records: int = 0

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.directory.resolve().name


@runtime_checkable
class Logger(Protocol):
    """Writes the numbers of a run to one place.

    It is created with a ``Recorded``. Each of its functions may raise any error: ``Loggers`` deals with it.

    Attributes:
      package: the module that it needs.
      id: what the tracker calls the run; None for a place where a step may be written again, because
        ``begin`` drops it there.
    """

    package: ClassVar[str]
    id: str | None

    def __init__(self, run: Recorded) -> None: ...

    def begin(self, stage: str, first_step: int) -> None:
        """Takes note of a stage that begins, or goes on after a step."""

    def write(self, step: int, stage: str, values: Mapping[str, int | float]) -> None:
        """Writes the numbers of a step of a stage; never the same number of the same step twice."""

    def close(self, *, failed: bool) -> None:
        """Ends the records of a run that has ended, or was ended by an error."""


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Ignores the warnings of a tracker's package, also where the user has turned warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
