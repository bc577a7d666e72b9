"""Saves a search index to a folder, and opens it memory-mapped."""

import hashlib
import json
import os
import pathlib
import reprlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.normalization import NORMALIZATIONS, weigh_features
from gradrev_jax.errors import DataError
from gradrev_jax.files import new_folder
from gradrev_jax.search.changes import Replacement
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.mapped_arrays import map_array
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.table_layout import table_layout

VERSION = 4
OLDER = (2, 3)  # version 2 knew no weights, and version 3 no edit but that of Eq. 7
ABOUT, FEATURES = "index.json", "features"
# The arrays of ``GalleryProducts`` that have a file of their own.
ARRAYS = ("rows", "square_norms", "largest", "memory", "memory_norms", "table", "part", "entries")


def save_index(index: ManipulationIndex, folder: str | os.PathLike[str]) -> None:
    """Writes an index to a new folder, which appears whole or not at all.

    Args:
      index: the index.
      folder: the path of the folder.

    Raises:
      DataError: the folder exists, or cannot be written.

    Example:
      >>> import tempfile
      >>> from gradrev_jax import AttributeSchema
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory, gallery = np.eye(2)[:, None], np.array([[[1.0, 0.0]], [[0.6, 0.8]]])
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     save_index(ManipulationIndex.build(gallery, memory, schema), pathlib.Path(parent, "index"))
      ...     index = open_index(pathlib.Path(parent, "index"), memory=memory)
      ...     index.search(reference_ids=np.array([0]), indicators=np.array([[-1, 1]]), k=1).indices.tolist()
      [[1]]
    """
    features = np.asarray(index.features)
    if features.dtype.kind != "f":  # bfloat16 and integers have no form of their own in a file of NumPy's
        features = features.astype(np.asarray(index.products.rows).dtype)
    arrays = {FEATURES: features, **{name: getattr(index.products, name) for name in ARRAYS}}
    weights = index.products.weights
    about = {
        "version": VERSION,
        "normalize": index.normalize,
        "weights": None if weights is None else np.asarray(weights).tolist(),
        "replacement": None,
        "gallery": fingerprint(index.features),
        "memory": fingerprint(index.prototypes),
    }
    if index.replacement is not None:
        attribute_of, has_absent = index.replacement.attribute_of.tolist(), index.replacement.has_absent
        about["replacement"] = {"attribute_of": attribute_of, "has_absent": has_absent}
    with new_folder(pathlib.Path(folder), DataError) as new:
        for name, array in arrays.items():
            np.save(new / f"{name}.npy", np.asarray(array))
        (new / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def open_index(
    folder: str | os.PathLike[str],
    *,
    features: Float[Array | np.ndarray, "G P d"] | None = None,
    memory: Float[Array | np.ndarray, "J P d"] | None = None,
) -> ManipulationIndex:
    """Opens an index with its files memory-mapped, so that on a CPU a search reads only what it needs.

    Args:
      folder: the path of a folder from ``save_index``.
      features: the gallery that the index must belong to; None: any gallery.
      memory: the memory that the index must belong to; None: any memory.

    Raises:
      DataError: the folder is no index, is damaged, or belongs to another gallery or memory.
    """
    folder = pathlib.Path(folder)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        version = about["version"]
        if version in (VERSION, *OLDER):
            index, known = _read(folder, about)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{folder} is no index that can be read: {error}; build it again") from error
    if version not in (VERSION, *OLDER):
        raise DataError(
            f"{folder} is an index of version {reprlib.repr(version)}, not {VERSION}; build it again"
        )
    products = index.products
    if memory is not None and products.weights is not None and memory.shape[1:] == products.memory.shape[1:]:
        memory = weigh_features(jnp.asarray(memory, products.rows.dtype), index.normalize, products.weights)
    for name, expected in (("gallery", features), ("memory", memory)):
        if expected is not None and fingerprint(expected) != known[name]:
            raise DataError(f"{folder} is the index of another {name}; build it again from this one")
    return index


def _read(folder: pathlib.Path, about: Any) -> tuple[ManipulationIndex, dict[str, str]]:
    """Reads an index of a known version, and the digests of its gallery and memory.

    Raises:
      OSError, ValueError, KeyError, TypeError, OverflowError: it is damaged.
    """
    integers = dict.fromkeys(("part", "entries"), "iu")
    arrays: dict[str, Any] = {
        name: map_array(folder / f"{name}.npy", integers.get(name, "f")) for name in (FEATURES, *ARRAYS)
    }
    version, normalize = about["version"], about["normalize"]
    given = None if version == 2 else about["weights"]
    weights = None if given is None else np.array(given, np.float64)
    edit = about["replacement"] if version == VERSION else None
    _check_arrays(arrays, normalize, weights)
    replacement = None if edit is None else _make_replacement(edit, arrays["memory"])
    mapped = arrays.pop(FEATURES)
    # On a CPU, JAX does not copy aligned memory, and these files are aligned.
    placed: dict[str, Any] = {name: jnp.asarray(array) for name, array in arrays.items()}
    if weights is not None:
        placed["weights"] = jnp.asarray(weights, placed["rows"].dtype)
    index = ManipulationIndex(mapped, GalleryProducts(**placed, normalize=normalize), replacement)
    known = {"gallery": about["gallery"], "memory": about["memory"]}
    if fingerprint(index.prototypes) != known["memory"]:
        raise ValueError("its memory is not the one that it was saved with")
    return index, known


def _check_arrays(arrays: dict[str, Any], normalize: Any, weights: np.ndarray | None) -> None:
    """Raises a ValueError unless the arrays of an index fit each other; large ones are not read."""
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"its normalisation is {reprlib.repr(normalize)}")
    rows, memory = arrays["rows"], arrays["memory"]
    if rows.ndim != 3 or memory.ndim != 3 or not rows.size or not memory.size:
        raise ValueError(f"its rows are {rows.shape} and its memory {memory.shape}")
    count, *block = rows.shape
    part, entries = table_layout(memory, normalize)
    expected = {
        FEATURES: rows.shape,
        "square_norms": (count,),
        "largest": (),
        "memory": (len(memory), *block),
        "memory_norms": memory.shape[:2],
        "table": (len(part), count),
        "part": part.shape,
        "entries": entries.shape,
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name}.npy has the shape {arrays[name].shape}, not {shape}")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and array.dtype != rows.dtype and name != FEATURES:
            raise ValueError(f"{name}.npy has numbers of the type {array.dtype}, not {rows.dtype}")
    if not np.array_equal(arrays["part"], part) or not np.array_equal(arrays["entries"], entries):
        raise ValueError("part.npy or entries.npy is damaged")
    for name in ("square_norms", "largest", "memory", "memory_norms"):
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name}.npy has numbers that are not finite")
    if weights is not None and (
        weights.shape != memory.shape[1:2] or not np.isfinite(weights).all() or (weights < 0).any()
    ):
        raise ValueError(f"it has the weights {reprlib.repr(weights.tolist())} for {memory.shape[1]} blocks")


def _make_replacement(edit: Any, memory: np.ndarray) -> Replacement:
    """Makes the edit by replacement of an index.

    Raises:
      ValueError: it does not fit the memory.
    """
    attribute_of, has_absent, blocks = np.array(edit["attribute_of"]), edit["has_absent"], memory.shape[1]
    if type(has_absent) is not bool:
        raise ValueError("`has_absent` is neither true nor false")
    if attribute_of.ndim != 1 or attribute_of.dtype.kind != "i" or not len(attribute_of):
        raise ValueError("`attribute_of` is no list of whole numbers")
    if (attribute_of < 0).any() or (attribute_of >= blocks).any():
        raise ValueError(f"`attribute_of` has numbers beyond the {blocks} blocks")
    added = int(attribute_of.max()) + 1 if has_absent else 0
    if len(memory) != len(attribute_of) + added:
        raise ValueError(f"`attribute_of` has {len(attribute_of)} values, and its memory {len(memory)} rows")
    return Replacement(attribute_of, has_absent)


def fingerprint(array: Array | np.ndarray) -> str:
    """Returns a digest of an array's shape and of its numbers as float32."""
    numbers = np.asarray(array)
    digest = hashlib.blake2b(str(numbers.shape).encode(), digest_size=16)
    for rows in np.array_split(numbers, max(1, numbers.nbytes // 2**26)):
        digest.update(np.ascontiguousarray(rows, np.float32).tobytes())
    return digest.hexdigest()
