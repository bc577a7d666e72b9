"""Saves a search index to a folder, and opens it memory-mapped."""

import hashlib
import json
import os
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.normalization import weigh_features
from gradrev_jax.errors import DataError
from gradrev_jax.files import new_folder
from gradrev_jax.search.changes import Replacement
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.products import GalleryProducts

VERSION = 4
OLDER = (2, 3)  # version 2 knew no weights, and version 3 no edit but that of Eq. 7
ABOUT, FEATURES = "index.json", "features"


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
    arrays = {FEATURES: index.features, **index.products._asdict()}
    weights = arrays.pop("weights")
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
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in (FEATURES, *GalleryProducts._fields)
            if name != "weights"
        }
        version, normalize = about["version"], about["normalize"]
        given = None if version == 2 else about["weights"]
        weights = None if given is None else np.array(given, np.float64)
        edit = about["replacement"] if version == VERSION else None
        replacement = (
            None if edit is None else Replacement(np.array(edit["attribute_of"]), edit["has_absent"])
        )
        known = {"gallery": about["gallery"], "memory": about["memory"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is no index that can be read: {error}; build it again") from error
    if version not in (VERSION, *OLDER):
        raise DataError(f"{folder} is an index of version {version}, not {VERSION}; build it again")
    if memory is not None and weights is not None and memory.shape[1:] == arrays["memory"].shape[1:]:
        memory = weigh_features(jnp.asarray(memory, arrays["memory"].dtype), normalize, weights)
    for name, expected in (("gallery", features), ("memory", memory)):
        if expected is not None and fingerprint(expected) != known[name]:
            raise DataError(f"{folder} is the index of another {name}; build it again from this one")
    mapped: Any = arrays.pop(FEATURES)
    # On a CPU, JAX does not copy aligned memory, and these files are aligned.
    products = GalleryProducts(**{name: jnp.asarray(array) for name, array in arrays.items()})
    if weights is not None:
        products = products._replace(weights=jnp.asarray(weights, products.rows.dtype))
    return ManipulationIndex(mapped, products, normalize, replacement)


def fingerprint(array: Array | np.ndarray) -> str:
    """Returns a digest of an array's shape and of its numbers as float32."""
    numbers = np.asarray(array)
    digest = hashlib.blake2b(str(numbers.shape).encode(), digest_size=16)
    for rows in np.array_split(numbers, max(1, numbers.nbytes // 2**26)):
        digest.update(np.ascontiguousarray(rows, np.float32).tobytes())
    return digest.hexdigest()
