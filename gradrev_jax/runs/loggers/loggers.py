"""Passes a run's records to all of its loggers, none of which can end it."""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gradrev_jax.distributed import is_first, say
from gradrev_jax.errors import ConfigError, WorkdirError, first_line
from gradrev_jax.files import replace_file
from gradrev_jax.runs.loggers.logger import Logger, Recorded, without_warnings
from gradrev_jax.runs.loggers.registry import LOGGERS
from gradrev_jax.runs.loggers.tags import scalar_tags

LOGGERS_FILE = "loggers.json"
_AXES = ("stage", "step", "epoch")  # of a record: what its numbers are drawn over


class Loggers:
    """Represents the open loggers of a run.

    ``loggers.json`` in the run's folder has the id that each tracker gave the run, the number of records that
    it was told, and the last step at which it was told each number, by stage. So a run that goes on is the
    same run there, no step is told twice, and what a tracker has missed is told when it is back. A logger
    that fails is told nothing more.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._path = directory / LOGGERS_FILE
        self._trackers = _read(self._path)
        self._opened: dict[str, Logger] = {}

    def open(self, name: str, directory: pathlib.Path, config: Mapping[str, Any]) -> None:
        """Opens a logger; whatever it raises is raised.

        Args:
          name: its name.
          directory: the run's folder, which is not written to.
          config: the fields of the run's config, by dotted name; a tracker is told them once.
        """
        known = self._trackers.get(name, {"id": None, "records": 0, "told": {}})
        with without_warnings():
            logger = LOGGERS[name](Recorded(directory, config, known["id"], known["records"]))
        self._opened[name] = logger
        if logger.id is not None:
            self._trackers[name] = {**known, "id": logger.id}

    def begin(self, stage: str, first_step: int, past: Iterable[Mapping[str, Any]]) -> None:
        """Announces that a stage begins, or goes on.

        Args:
          stage: the name of the stage.
          first_step: the step that it goes on from.
          past: all records of the run so far, which are told to trackers that have missed them.
        """
        for name, logger in list(self._opened.items()):
            with self._without_failing(name, f"the start of stage {stage}"):
                logger.begin(stage, first_step)
                if logger.id is not None:
                    self._save()
                    for record in past:
                        self._tell(name, logger, record)

    def write(self, record: Mapping[str, Any]) -> None:
        """Passes a record to all loggers."""
        for name, logger in list(self._opened.items()):
            with self._without_failing(name, f"step {record['step']} of stage {record['stage']}"):
                self._tell(name, logger, record)

    def close(self, *, failed: bool) -> None:
        """Ends the records of a run that has ended, or was ended by an error."""
        for name, logger in list(self._opened.items()):
            with self._without_failing(name, "the end of the run"):
                logger.close(failed=failed)

    def _tell(self, name: str, logger: Logger, record: Mapping[str, Any]) -> None:
        step, stage = record["step"], record["stage"]
        values = {field: value for field, value in record.items() if field not in _AXES}
        if logger.id is not None:
            tracker = self._trackers[name]
            told = tracker["told"].setdefault(stage, {})
            values = {field: value for field, value in values.items() if told.get(field, 0) < step}
            if not values:
                return
            told |= dict.fromkeys(values, step)
            tracker["records"] += 1
            self._save()  # before it is told, so that a process killed in between tells nothing twice
        logger.write(step, stage, scalar_tags(values))

    def _save(self) -> None:
        replace_file(self._path, json.dumps(self._trackers, indent=2).encode() + b"\n", WorkdirError)

    @contextlib.contextmanager
    def _without_failing(self, name: str, where: str) -> Iterator[None]:
        try:
            with without_warnings():
                yield
        except Exception as error:
            del self._opened[name]
            say(
                f"{name} failed at {where}: {first_line(error).strip()}; it gets no more records now, "
                "metrics.jsonl has all"
            )


@contextlib.contextmanager
def open_loggers(
    names: Sequence[str], directory: pathlib.Path, config: Mapping[str, Any], *, has_begun: bool
) -> Iterator[Loggers]:
    """Opens the loggers of a run, in the first of several processes alone, and closes them.

    Args:
      names: the names of the loggers.
      directory: the run's folder, which is not written to yet.
      config: the fields of the run's config, by dotted name; a tracker is told them once.
      has_begun: whether the run goes on: then a tracker that cannot be opened is no reason to stop it.

    Raises:
      ConfigError: a tracker of a new run cannot be opened.
      WorkdirError: the file with the ids is damaged.
    """
    loggers, failed = Loggers(directory), True
    try:
        for name in names if is_first() else ():
            try:
                loggers.open(name, directory, config)
            except Exception as error:
                reason = f"{name} cannot be opened: {first_line(error).strip()}"
                if not has_begun:
                    raise ConfigError(f"train.loggers: {reason}; or leave {name} out") from error
                say(f"{reason}; it gets no records now, metrics.jsonl has all")
        yield loggers
        failed = False
    finally:
        loggers.close(failed=failed)


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the trackers that know a run: their ids, and what they were told."""
    try:
        trackers = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: {"id": str(each["id"]), "records": int(each["records"]), "told": dict(each["told"])}
            for name, each in trackers.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WorkdirError(
            f"{path} cannot be read ({first_line(error).strip()}); remove it, and trackers get a new run"
        ) from error
