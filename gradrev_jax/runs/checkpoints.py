"""Checkpoints of a training stage; the only module that knows Orbax."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from gradrev_jax import distributed
from gradrev_jax.errors import CheckpointError, first_line
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer
from gradrev_jax.runs.old_checkpoints import LATEST, REMOVED, remove_missed, remove_old

METRIC = "score"
STEP_PREFIX = "step"
PARAMS, REST = ITEMS = ("params", "rest")  # what evaluation reads, and what only training needs besides


def _score(metrics: dict[str, float]) -> float:
    return metrics[METRIC]


def _check_shapes(item: str, *, stored: Any, wanted: Any) -> None:
    """Raises unless two trees have the same leaves of the same shapes; names the first that differ.

    Orbax checks too, but says neither which leaf nor of what.
    """
    if stored is None:
        raise ValueError(f"the metadata of its part {item!r} are missing")

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}

    there, here = shapes(stored.tree), shapes(wanted)
    differing = [
        f"{item}/{name} is {there.get(name, 'missing')} there, {here.get(name, 'unknown')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise ValueError("; ".join(differing[:3]) + (", ..." if len(differing) > 3 else ""))


def _unusable_file(folder: pathlib.Path) -> str | None:
    """Returns the first file that is empty or a Git LFS pointer, with a word on it; Orbax writes neither."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with contextlib.suppress(OSError), path.open("rb") as file:
            start = file.read(HEAD)
            if not start:
                return f"{path} is empty"
            if is_lfs_pointer(start):
                return f"{path} {LFS_ADVICE}"
    return None


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns where a leaf is restored to: its own sharding, or this process's first device."""
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class Checkpoints:
    """Numbered checkpoints in one folder, keeping the latest and the best.

    A checkpoint holds two items, ``params`` and ``rest``; reading may ask for one of them. Writing is
    asynchronous: the arrays are copied before ``save`` returns, so they may be donated right after, and
    files are written meanwhile. An unfinished checkpoint is never taken for a whole one.

    Use it as a context manager; leaving waits for what is being written.
    """

    def __init__(self, directory: pathlib.Path, *, read_only: bool = False) -> None:
        self._directory = directory.absolute()
        if read_only and not self._directory.is_dir():
            raise CheckpointError(f"{directory} does not exist; train first: python train.py --workdir=...")
        policy = AnyPreservationPolicy(
            [
                LatestN(LATEST),
                BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        with self._reading("open"):
            self._manager = ocp.CheckpointManager(
                self._directory,
                item_handlers={name: ocp.StandardCheckpointHandler() for name in ITEMS},
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policy,
                    best_fn=_score,  # or metrics would not be written; the policy decides what stays
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                    step_prefix=STEP_PREFIX,
                    todelete_subdir=None if read_only else REMOVED,
                ),
            )
        if not read_only:
            old = set(self.steps[:-LATEST]) - {self.best_step}
            remove_missed(self._directory, [self._directory / f"{STEP_PREFIX}_{step}" for step in old])
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
        metrics = None if score is None else {METRIC: score}
        arguments = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        with self._writing(f"write step {step} to"):
            self._manager.save(step, args=ocp.args.Composite(**arguments), metrics=metrics, force=True)

    def restore(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
        """Reads the named items of a checkpoint, after waiting for one that is still being written.

        Args:
          step: which.
          items: name -> pytree of arrays, whose shapes, dtypes and devices the result has, or of
            ShapeDtypeStructs.

        Raises:
          CheckpointError: it is damaged, its shapes are others, or the last one could not be written.
        """
        targets = {
            name: ocp.args.StandardRestore(jax.tree.map(_target, tree)) for name, tree in items.items()
        }
        self._wait()
        with self._reading(f"read step {step} of", self._directory / f"{STEP_PREFIX}_{step}"):
            for name, tree in items.items():
                _check_shapes(name, stored=self._manager.item_metadata(step)[name], wanted=tree)
            restored = self._manager.restore(step, args=ocp.args.Composite(**targets))
        return {name: restored[name] for name in items}

    @property
    def steps(self) -> tuple[int, ...]:
        """Returns the steps of all checkpoints, ascending."""
        return tuple(sorted(self._manager.all_steps()))

    @property
    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint; None without one."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Returns the step of the highest score, or the latest if none was measured; None without any."""
        self._wait()
        scores = {step: metrics[METRIC] for step in self.steps if (metrics := self._manager.metrics(step))}
        return max(scores, key=lambda step: (scores[step], step)) if scores else self.latest_step

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
            self.close()  # which otherwise waits for a process that is gone

    @contextlib.contextmanager
    def _writing(self, action: str) -> Iterator[None]:
        """Explains whatever the libraries below raise while they write."""
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
        """Explains what fails with the checkpoint in a folder, or with an unknown one of them."""
        try:
            yield
        except Exception as error:
            reason = _unusable_file(folder or self._directory) or first_line(error)
            which = f"its folder, {folder}," if folder else "the folder of that checkpoint"
            raise CheckpointError(
                f"cannot {action} {self._directory}: {reason}\nIt is damaged, or of another model; "
                f"restore it from a copy, or remove {which} to fall back on an earlier one."
            ) from error
