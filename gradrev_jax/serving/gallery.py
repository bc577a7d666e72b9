"""The encoded gallery of a run, kept in its folder so that the next start takes no time."""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.missing_labels import classes_of
from gradrev_jax.core.spaces import Images
from gradrev_jax.data.catalogue import TEST, VALIDATION, Catalogue
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.distributed import say
from gradrev_jax.errors import DataError
from gradrev_jax.files import expand, new_folder, remove_leftovers
from gradrev_jax.runs import workdir
from gradrev_jax.runs.checkpoint_layout import step_of
from gradrev_jax.search.mapped_arrays import map_array
from gradrev_jax.serving.engines.vectors import DIGEST
from gradrev_jax.serving.space import SearchSpace, open_space, save_space
from gradrev_jax.systems.objective import STAGES

FOLDER = "serving"
ABOUT, SPACE = "gallery.json", "space.safetensors"
ARRAYS = ("blocks", "own_logits")
VERSION = 2
FITTED_TO = "fitted_to"
# Of a provenance, what changes without another setting.
STATE = ("weights", "images", "vectors", "count", FITTED_TO)
MOST_GALLERIES = 4  # galleries of the same parts that are kept, each of other settings


class EncodedGallery(NamedTuple):
    """Represents the images of a gallery as a search compares them.

    Attributes:
      space: how they are described, compared and edited.
      stage: the stage of the checkpoint that encoded them.
      step: the number of the checkpoint.
      blocks: the gallery, float32 [G, P, w]; memory-mapped if it comes from a folder.
      own_logits: see ``Images``, [G, C].
    """

    space: SearchSpace
    stage: str
    step: int
    blocks: Float[np.ndarray, "G P w"]
    own_logits: Float[np.ndarray, "G C"]


def check_finite(blocks: np.ndarray, own_logits: np.ndarray, directory: pathlib.Path) -> None:
    """Raises unless what a network says of images are numbers that can be compared and shown.

    Args:
      blocks: what images are compared by, [M, P, w].
      own_logits: see ``Images``, [M, C].
      directory: the folder of the run, for the message.

    Raises:
      DataError: they are not finite, as those of a network that has diverged, or was made to.

    Example:
      >>> check_finite(np.zeros((1, 1, 2)), np.zeros((1, 2)), pathlib.Path("runs/mine"))
    """
    for array in (blocks, own_logits):
        if not np.isfinite(array).all():
            raise DataError(
                f"the network of {directory} gives numbers that are not finite, so nothing can be compared; "
                "open another run, or another of its checkpoints"
            )


def gallery_provenance(
    directory: pathlib.Path,
    config: Mapping[str, Any],
    catalogue: Catalogue,
    rows: Int[np.ndarray, " G"],
    asked: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the provenance of an encoded gallery, so that a change of any of it is noticed.

    Images are known by their names, labels, sizes and times of change: nothing is read. Those of all parts
    count. ``fitted_to`` is a digest of what the space depends on, whatever gallery it serves: training and
    validation images, which prototypes, temperatures and all choices come from. Without a validation part the
    mean look is that of the test images, see ``core.representations.mean_embedding``.

    Args:
      directory: the folder of the run.
      config: the config of the run.
      catalogue: its catalogue.
      rows: the gallery's rows in the catalogue, [G].
      asked: what else was asked for, such as the step.
    """
    settings = json.dumps(workdir.flat_fields(config), sort_keys=True, default=str)
    common = {
        "version": VERSION,
        "config": _digest(settings.encode()),
        "weights": _weights(directory),
        "vectors": _files(config.get("data", {}).get("embeddings")),
        **asked,
    }
    images = {part: _digest_part(catalogue, part) for part in catalogue.parts}
    has_validation = len(catalogue.parts[VALIDATION]) > 0
    fitted_to = {part: digest for part, digest in images.items() if part != TEST or not has_validation}
    return {
        **common,
        "images": images,
        "count": len(rows),
        FITTED_TO: _digest(json.dumps([common, fitted_to], sort_keys=True).encode()),
    }


def open_gallery(
    directory: pathlib.Path, parts: Sequence[str], provenance: Mapping[str, Any]
) -> EncodedGallery | None:
    """Opens the gallery that was kept in a run's folder; None if there is none of this run and catalogue.

    Args:
      directory: the folder of the run.
      parts: the parts of the catalogue that it shows.
      provenance: that of the gallery that is wanted, see ``gallery_provenance``.
    """
    folder = kept_folder(directory, parts, provenance)
    if leads_elsewhere(folder, directory):
        return None
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["made_of"] != provenance:
            say(f"{folder} is of an earlier state of the run or of its catalogue; encoding the gallery again")
            return None
        blocks, own_logits = (map_array(folder / f"{name}.npy") for name in ARRAYS)
        space = open_space(folder / SPACE)
        num_classes = classes_of(space.schema, space.missing).num_values
        shapes = (provenance["count"], *space.fitted.memory.shape[1:]), (provenance["count"], num_classes)
        if (blocks.shape, own_logits.shape) != shapes or not blocks.dtype == own_logits.dtype == np.float32:
            raise ValueError("its arrays do not fit each other")
        stage, step = about["stage"], about["step"]
        if stage not in STAGES or type(step) is not int or step < 0:
            raise ValueError("it does not say which checkpoint it is of")
        check_finite(blocks, own_logits, directory)
        return EncodedGallery(space, stage, step, blocks, own_logits)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DataError) as error:
        say(f"{folder} cannot be read ({error}); encoding the gallery again")
        return None


def keep_gallery(
    directory: pathlib.Path, parts: Sequence[str], provenance: Mapping[str, Any], gallery: EncodedGallery
) -> bool:
    """Writes an encoded gallery into the folder of its run; says so where that cannot be done.

    Args:
      directory: the folder of the run.
      parts: the parts of the catalogue that it shows.
      provenance: its provenance.
      gallery: the gallery.

    Returns:
      Whether that could be done.
    """
    folder = kept_folder(directory, parts, provenance)
    try:
        if leads_elsewhere(folder, directory):
            raise DataError(f"{folder} is a link to another folder")
        _remove(folder)
        with new_folder(folder, DataError) as new:
            for name, array in zip(ARRAYS, (gallery.blocks, gallery.own_logits), strict=True):
                np.save(new / f"{name}.npy", array)
            save_space(gallery.space, new / SPACE)
            about = {"made_of": dict(provenance), "stage": gallery.stage, "step": gallery.step}
            (new / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except (OSError, DataError) as error:
        say(f"the encoded gallery is not kept, so the next start encodes it again: {error}")
        return False
    _remove_oldest(directory, parts)
    return True


def kept_folder(directory: pathlib.Path, parts: Sequence[str], provenance: Mapping[str, Any]) -> pathlib.Path:
    """Returns the folder in which the encoded gallery of some parts, by some settings, is kept.

    Example:
      >>> kept_folder(pathlib.Path("runs/mine"), ("train", "test"), {"step": "best"}).as_posix()
      'runs/mine/serving/train+test_d3673dbf'
    """
    settings = {name: value for name, value in provenance.items() if name not in STATE}
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=4).hexdigest()
    return directory / FOLDER / f"{'+'.join(parts)}_{digest}"


def _remove_oldest(directory: pathlib.Path, parts: Sequence[str]) -> None:
    """Removes the galleries of some parts that were written first, but for the last few."""
    name, found = "+".join(parts), []
    for path in (directory / FOLDER).iterdir():
        is_kept = path.name == name or path.name.startswith(f"{name}_")
        if is_kept and not leads_elsewhere(path, directory):
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                found.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(found)[:-MOST_GALLERIES]:
        with contextlib.suppress(OSError):  # a folder with a file that is not of ours stays
            _remove(path)


def join_images(images: Sequence[Images]) -> Images:
    """Returns the images of several parts as those of one.

    Args:
      images: the parts, at least one.
    """
    return Images(*(np.concatenate([np.asarray(x) for x in field]) for field in zip(*images, strict=True)))


def _digest_part(catalogue: Catalogue, part: str) -> str:
    """Returns a digest of the names, states and labels of the images of a part."""
    members, digest = catalogue.parts[part], hashlib.blake2b(digest_size=16)
    labels = np.ascontiguousarray(catalogue.labels[members], np.int32)
    for row, label in zip(members.tolist(), labels, strict=True):
        state = _state(catalogue, row)
        digest.update(f"{catalogue.images.name(row)}\0{state}\0".encode("utf-8", "surrogateescape"))
        digest.update(label.tobytes())
    return digest.hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _weights(directory: pathlib.Path) -> list[list[Any]]:
    """Returns the checkpoints and the files of weights of a run, each with its time of change.

    Training may go on meanwhile: what is written, moved aside or removed is left out, and what vanishes, too.
    """
    steps = [path for path in directory.glob("checkpoints/*/*") if step_of(path) is not None]
    found = []
    for path in sorted([*steps, *directory.glob("*.safetensors")], key=str):
        with contextlib.suppress(FileNotFoundError):
            found.append([str(path.relative_to(directory)), path.stat().st_mtime_ns])
    return found


def _files(path: str | None) -> list[list[Any]]:
    """Returns the sizes and times of change of a file, or of those in a folder; none without a path."""
    if not path:
        return []
    place = expand(path, "data.embeddings")
    stats = [(file, file.stat()) for file in sorted(place.rglob("*") if place.is_dir() else [place])]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _state(catalogue: Catalogue, row: int) -> tuple[int, int] | None:
    """Returns the size and the time of change of an image's file; None if there is no file."""
    images = getattr(catalogue.images, "images", catalogue.images)  # what has vectors beside it wraps them
    if not isinstance(images, ImageFiles):
        return None
    try:
        stat = os.stat(images.root / images.paths[row])
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def leads_elsewhere(folder: pathlib.Path, directory: pathlib.Path) -> bool:
    """Returns whether a folder of a run lies elsewhere, as that of a stranger's model may, by a link.

    Args:
      folder: the folder.
      directory: the folder of the run.
    """
    return not folder.resolve().is_relative_to(directory.resolve())


def _remove(folder: pathlib.Path) -> None:
    """Removes a kept gallery, its description first, so that what is left is never taken for one.

    No other file is: the folder of a stranger's model may be a link to anywhere.
    """
    if not folder.exists():
        return
    for name in (ABOUT, DIGEST, SPACE, *(f"{name}.npy" for name in ARRAYS)):
        (folder / name).unlink(missing_ok=True)
        remove_leftovers(folder / name)
    folder.rmdir()
