"""Reads and writes the file of a shared model: all numbers of a run at one of its checkpoints.

A folder that holds such a file is a run that can be used but not trained further: ``restore`` and
``open_frozen_backbone`` read the file in place of checkpoints. These folders may come from strangers. So
nothing in the file is executed, and every name, shape and type is compared with what the model needs before
a tensor is read.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
import safetensors
import safetensors.numpy

from gradrev_jax.errors import WorkdirError, first_line, join_lines
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer
from gradrev_jax.systems.objective import STAGES

MODEL_FILE = "model.safetensors"
ENCODER, MEMORY, BACKBONE, SPACE = "encoder", "memory", "backbone", "space"  # the parts of the file
SEPARATOR = "/"  # between the name of a part, and those of modules and parameters
KEY, FORMAT = "gradrev_jax", "model 1"
FLOAT = "F32"
LARGEST_HEADER = 1 << 24  # bytes; the names of a network's tensors take some ten thousand
AGAIN = "export it again, or fetch it again"
SHOWN = 4  # tensors that a message names


class Checkpoint(NamedTuple):
    """Represents the checkpoint that a model was exported from.

    Attributes:
      stage: its stage.
      step: its number.
    """

    stage: str
    step: int


def holds_model(directory: pathlib.Path) -> bool:
    """Returns whether a folder holds a model that is shared.

    Example:
      >>> holds_model(pathlib.Path("no/such/folder"))
      False
    """
    return (directory / MODEL_FILE).is_file()


def check_trainable(directory: pathlib.Path) -> None:
    """Raises if a folder holds a model that is shared, which has nothing that training could go on from.

    Raises:
      WorkdirError: it does.
    """
    if holds_model(directory):
        raise WorkdirError(
            f"{directory} is a model to share, without the checkpoints that training goes on from; give "
            "another --workdir to train, or the run that it was exported from"
        )


def write_model(
    path: pathlib.Path,
    checkpoint: Checkpoint,
    trees: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Writes a model.

    Args:
      path: the file, in a folder that is being made.
      checkpoint: the checkpoint that it is of.
      trees: the arrays of each part of the file: ``encoder``, ``memory``, and ``backbone`` if it is frozen.
      arrays: further arrays, by whole names.
      metadata: what goes with these.
    """
    named = {
        name: np.asarray(jax.device_get(leaf), np.float32)
        for part, tree in trees.items()
        for name, leaf in _flatten(part, tree).items()
    }
    about = {"format": FORMAT, **checkpoint._asdict()}
    content = {name: np.ascontiguousarray(array) for name, array in {**named, **arrays}.items()}
    path.write_bytes(safetensors.numpy.save(content, metadata={**metadata, KEY: json.dumps(about)}))


def read_checkpoint(directory: pathlib.Path) -> Checkpoint:
    """Reads which checkpoint a model was exported from.

    Args:
      directory: the folder of the model.

    Raises:
      WorkdirError: the file is damaged, or something else.
    """
    with _opened(directory) as file:
        written = (file.metadata() or {}).get(KEY)
        try:
            about = json.loads(written or "{}")
            form, stage, step = about.get("format"), about.get("stage"), about.get("step")
        except (ValueError, AttributeError, RecursionError):
            form = stage = step = None
        if form != FORMAT:
            raise WorkdirError(f"is no model of gradrev_jax that this version reads; {AGAIN}")
        if stage not in STAGES or not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise WorkdirError(f"does not say which checkpoint it is of; {AGAIN}")
        return Checkpoint(stage, step)


def read_tree(directory: pathlib.Path, part: str, shapes: Any) -> Any:
    """Reads one part of a model.

    Args:
      directory: the folder of the model.
      part: the name of the part.
      shapes: a tree of arrays, or of their shapes: those of the part, float32.

    Returns:
      The arrays, as such a tree.

    Raises:
      WorkdirError: the file is damaged, or of another model; nothing was read in the latter case.
    """
    wanted = {name: tuple(leaf.shape) for name, leaf in _flatten(part, shapes).items()}
    with _opened(directory) as file:
        _check_names(part, wanted, set(file.keys()))
        slices = {name: file.get_slice(name) for name in wanted}
        there = {name: (tuple(each.get_shape()), each.get_dtype()) for name, each in slices.items()}
        differing = [
            f"{name} is {shape} {kind}; the config and the attributes need {wanted[name]} {FLOAT}"
            for name, (shape, kind) in there.items()
            if (shape, kind) != (wanted[name], FLOAT)
        ]
        if differing:
            raise WorkdirError(
                f"does not fit its config and attributes:\n{join_lines(differing, most=SHOWN)}"
            )
        arrays = {name: np.asarray(file.get_tensor(name)) for name in wanted}
        if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
            raise WorkdirError(f"has numbers that are not finite in {bad[0]}; {AGAIN}")
    return _unflatten(part, arrays)


@contextlib.contextmanager
def _opened(directory: pathlib.Path) -> Iterator[Any]:
    """Opens the file of a model, whose header is checked first, and names it in the errors of the block."""
    path = directory / MODEL_FILE
    try:
        _check_header(path)
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except WorkdirError as error:
        raise WorkdirError(f"{path} {error}") from error.__cause__
    except PermissionError as error:
        raise WorkdirError(f"{path} cannot be read: {error.strerror}") from error
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise WorkdirError(f"{path} is cut short or damaged ({first_line(error)}); {AGAIN}") from error


def _check_header(path: pathlib.Path) -> None:
    """Raises unless the header has a length that a header of ours may have, and lies within the file."""
    with path.open("rb") as file:
        start = file.read(HEAD)
    if is_lfs_pointer(start):
        raise WorkdirError(LFS_ADVICE)
    length, size = int.from_bytes(start[:8], "little"), path.stat().st_size
    if len(start) < HEAD or start[8:9] != b"{" or 8 + length > size:
        raise WorkdirError(f"is cut short, or no .safetensors file; {AGAIN}")
    if length > LARGEST_HEADER:
        raise WorkdirError(f"has a header of {length:,} bytes, of which no model needs so many; {AGAIN}")


def _check_names(part: str, wanted: Iterable[str], there: set[str]) -> None:
    """Raises unless a part of the file has the tensors that are wanted, and the file no parts but ours."""
    ours = {name for name in there if name.split(SEPARATOR)[0] == part}
    known = (ENCODER, MEMORY, BACKBONE, SPACE)
    kinds = {
        "missing": sorted(set(wanted) - ours),
        "unknown": sorted(
            ours - set(wanted) | {name for name in there if name.split(SEPARATOR)[0] not in known}
        ),
    }
    if any(kinds.values()):
        lines = "; ".join(
            f"{len(names)} {kind}, as {', '.join(name[:80] for name in names[:SHOWN])}"
            for kind, names in kinds.items()
            if names
        )
        raise WorkdirError(f"does not have the tensors of its config and attributes: {lines}; {AGAIN}")


def _flatten(part: str, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {part: tree}
    flat = flax.traverse_util.flatten_dict(tree)
    return {SEPARATOR.join((part, *path)): leaf for path, leaf in flat.items()}


def _unflatten(part: str, arrays: Mapping[str, np.ndarray]) -> Any:
    if part in arrays:
        return arrays[part]
    return flax.traverse_util.unflatten_dict(
        {tuple(name.split(SEPARATOR)[1:]): array for name, array in arrays.items()}
    )
