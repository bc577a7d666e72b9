"""Checkpoints of a training stage; the only module that knows Orbax."""

import contextlib
import errno
import json
import pathlib
import shutil
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from gradrev_jax import distributed
from gradrev_jax.errors import CheckpointError, first_line, join_names
from gradrev_jax.files import naming_unreadable, new_folder
from gradrev_jax.runs.checkpoint_digests import Digests, damaged_leaves, digests, leaf_differences, shapes
from gradrev_jax.runs.checkpoint_layout import SCORE_ITEM, STEP_PREFIX, read_score, scored, step_folder
from gradrev_jax.runs.damaged_checkpoints import reason_of, set_aside, unusable_file
from gradrev_jax.runs.old_checkpoints import LATEST, REMOVED, remove_missed, remove_old
from gradrev_jax.runs.preservation import first_and_last_best, preservation_policy

PARAMS, REST = ITEMS = ("params", "rest")  # what evaluation reads, and what only training needs besides
# Of a stage at one time: the latest, the first and the last of the best score, and one being written.
MOST_CHECKPOINTS = LATEST + 3
DIGESTS = "digests"
# Errors of the system or the device, which do not mean that a file is damaged.
SYSTEM_ERRORS = (MemoryError, PermissionError, jax.errors.JaxRuntimeError)
SYSTEM_ERROR_NUMBERS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT)


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is not as it was written."""


class _OtherModelError(ValueError):
    """A checkpoint of other shapes than those that are asked for."""


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and the place to restore a leaf to: its sharding, or this process's first device."""
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class Checkpoints:
    """Numbered checkpoints in one folder, keeping the latest two and the best.

    A checkpoint holds two items, ``params`` and ``rest``; reading may ask for one of them. Writing is
    asynchronous: the arrays are copied before ``save`` returns, so they may be donated right after, and
    files are written meanwhile. An unfinished checkpoint is never taken for a whole one, and one that was
    damaged later is found by the digests of its arrays.

    Use it as a context manager; leaving waits for what is being written.
    """

    def __init__(self, directory: pathlib.Path, *, read_only: bool = False) -> None:
        self._directory = directory.absolute()
        with naming_unreadable(directory, CheckpointError):
            is_missing = read_only and not self._directory.is_dir()
        if is_missing:
            raise CheckpointError(f"{directory} does not exist; train first: python train.py --workdir=...")
        with self._reading("open"):
            self._manager = ocp.CheckpointManager(
                self._directory,
                item_handlers={name: ocp.StandardCheckpointHandler() for name in ITEMS},
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=preservation_policy(LATEST),
                    best_fn=read_score,  # or metrics would not be written; the policy decides what stays
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                    step_prefix=STEP_PREFIX,
                    todelete_subdir=None if read_only else REMOVED,
                ),
            )
        if not read_only:
            old = set(self.steps[:-LATEST]).difference(self._first_and_last_best())
            remove_missed(self._directory, [step_folder(self._directory, step) for step in old])
            self._manager.reload()

    def save(self, step: int, items: dict[str, Any], *, score: float | None = None) -> None:
        """Starts writing a checkpoint; does nothing if this step has one already.

        Args:
          step: steps done.
          items: name -> pytree of arrays.
          score: what the best checkpoint is chosen by; None never makes it the best.

        Raises:
          CheckpointError: it, or the one before it, could not be written.
        """
        if step == self.latest_step:
            return
        self._wait()  # as Orbax would
        remove_old(self._directory)
        metrics = None if score is None else scored(score)
        arguments = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        with self._writing(f"write step {step} to"):
            self._manager.save(
                step,
                args=ocp.args.Composite(**arguments),
                metrics=metrics,
                force=True,
                custom_metadata={DIGESTS: digests(items)},
            )

    def has_score(self, step: int) -> bool:
        """Returns whether a checkpoint has a score, after waiting for one that is still being written."""
        self._wait()
        return self._manager.metrics(step) is not None

    def add_score(self, step: int, score: float) -> None:
        """Gives a score to a checkpoint that was saved without one.

        Args:
          step: the step of the checkpoint.
          score: what the best checkpoint is chosen by.

        Raises:
          CheckpointError: it cannot be written.
        """
        self._wait()
        if distributed.is_first():
            with new_folder(step_folder(self._directory, step) / SCORE_ITEM, CheckpointError) as folder:
                (folder / SCORE_ITEM).write_text(json.dumps(scored(score)))
        distributed.barrier(f"score of step {step}")
        self._manager.reload()

    def restore(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
        """Reads the named items of a checkpoint, after waiting for one that is still being written.

        Args:
          step: the step of the checkpoint.
          items: name -> pytree of arrays, whose shapes, dtypes and devices the result has, or of
            ShapeDtypeStructs.

        Raises:
          DamagedCheckpointError: it is damaged.
          CheckpointError: its shapes are others, or the last one could not be written.
        """
        targets = {
            name: ocp.args.StandardRestore(jax.tree.map(_target, tree)) for name, tree in items.items()
        }
        self._wait()
        with self._reading(f"read step {step} of", step_folder(self._directory, step)):
            written = self._check_shapes(step, items)
            restored = self._manager.restore(step, args=ocp.args.Composite(**targets))
            items = {name: restored[name] for name in items}
            damaged = damaged_leaves(items, written)
            if int(distributed.sum_over_processes(np.int32(len(damaged)))):
                where = join_names(damaged, most=3) or "what another process has read"
                raise ValueError(f"the bytes are not those that were written: {where}")
        return items

    def _check_shapes(self, step: int, items: dict[str, Any]) -> Digests:
        """Checks that a checkpoint has the leaves that are asked for; returns their digests, if it has any.

        Raises:
          ValueError: it is damaged.
          _OtherModelError: it has others.
        """
        written = (self._manager.metadata(step).custom_metadata or {}).get(DIGESTS, {})
        here = shapes(items)
        if written:
            there = {name: tuple(w[1]) for name, w in written.items() if name.partition("/")[0] in items}
            if differences := leaf_differences(there, here):
                raise _OtherModelError(differences)
        stored = self._manager.item_metadata(step)
        for name in items:
            if stored[name] is None:
                raise ValueError(f"the metadata of its part {name!r} are missing")
        if differences := leaf_differences(shapes({name: stored[name].tree for name in items}), here):
            raise ValueError(differences) if written else _OtherModelError(differences)
        return written

    def restore_latest(self, items: dict[str, Any]) -> dict[str, Any]:
        """Reads the latest checkpoint that is whole; moves later ones aside, which are damaged, and says so.

        Args:
          items: as of ``restore``.

        Raises:
          CheckpointError: none can be read; nothing is moved.
        """
        damaged: dict[int, DamagedCheckpointError] = {}
        for step in reversed(self.steps):
            try:
                restored = self.restore(step, items)
            except DamagedCheckpointError as error:
                damaged[step] = error
                continue
            for later, reason in sorted(damaged.items()):
                if distributed.is_first():
                    done = set_aside(
                        step_folder(self._directory, later), reason_of(reason.__cause__ or reason)
                    )
                    distributed.say(f"{done}; going on from step {step}")
            if damaged:
                distributed.barrier(f"fall back on step {step}")
                self._manager.reload()
            return restored
        raise damaged[max(damaged)]

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of all checkpoints, ascending."""
        return tuple(sorted(self._manager.all_steps()))

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint; None without one."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The last step of the highest score; the latest if none was measured; None without any.

        Raises:
          CheckpointError: the scores are damaged, or the last checkpoint could not be written.
        """
        return self._first_and_last_best()[1]

    @property
    def first_best_step(self) -> int | None:
        """The first step of the highest score; otherwise as ``best_step``."""
        return self._first_and_last_best()[0]

    def _first_and_last_best(self) -> tuple[int | None, int | None]:
        self._wait()
        with self._reading("read the scores of"):
            found = ((step, self._manager.metrics(step)) for step in self.steps)
            scores = {step: read_score(metrics) for step, metrics in found if metrics is not None}
        return first_and_last_best(scores) if scores else (self.latest_step, self.latest_step)

    def close(self) -> None:
        """Waits for what is being written, and releases the folder.

        Raises:
          CheckpointError: the last checkpoint could not be written.
        """
        self._wait()
        remove_old(self._directory)
        self._manager.close()

    def _wait(self) -> None:
        """Waits until everything saved is written; raises if it could not be."""
        with self._writing("write the last checkpoint to"):
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not distributed.is_peer_failure(error):
            self.close()  # after the failure of another process it would wait for that process forever

    @contextlib.contextmanager
    def _writing(self, action: str) -> Iterator[None]:
        """Explains what the libraries below raise while they write."""
        try:
            yield
        except Exception as error:
            existing = next(path for path in (self._directory, *self._directory.parents) if path.exists())
            free = shutil.disk_usage(existing).free / 2**20
            raise CheckpointError(
                f"cannot {action} {self._directory}: {first_line(error)}\n{free:,.0f} MiB are free there. "
                "Checkpoints written before are whole: make room, and start again with the same --workdir to "
                "go on from the latest."
            ) from error

    @contextlib.contextmanager
    def _reading(self, action: str, folder: pathlib.Path | None = None) -> Iterator[None]:
        """Explains what the libraries below raise while they read the checkpoint in ``folder``; None: any."""
        try:
            yield
        except Exception as error:
            if folder and not folder.is_dir():  # training may remove it while an evaluation reads
                raise CheckpointError(
                    f"cannot {action} {self._directory}: training has replaced it meanwhile; start again"
                ) from error
            if isinstance(error, SYSTEM_ERRORS) or getattr(error, "errno", None) in SYSTEM_ERROR_NUMBERS:
                raise CheckpointError(f"cannot {action} {self._directory}: {first_line(error)}") from error
            kind = CheckpointError if isinstance(error, _OtherModelError) else DamagedCheckpointError
            reason = unusable_file(folder or self._directory) or reason_of(error)
            which = f"its folder, {folder}," if folder else "the folder of that checkpoint"
            raise kind(
                f"cannot {action} {self._directory}: {reason}\nIt is damaged, or of another model; "
                f"restore it from a copy, or remove {which} to fall back on an earlier one."
            ) from error
