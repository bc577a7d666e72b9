"""Reads features of a TFDS data set: which of them can be attributes, and their labels.

Imports tensorflow_datasets, an optional extra: ``import_tfds`` says how to install it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED

Feature = Any  # a tfds.features.FeatureConnector, perhaps a FeaturesDict of others


def leaves(features: Feature) -> dict[str, Feature]:
    """Returns features by their path, as ``attributes/Smiling`` for one within another.

    Example:
      >>> list(leaves(tfds.features.FeaturesDict({"box": {"x": np.float32}, "id": np.int64})))
      ['box/x', 'id']
    """
    found: dict[str, Feature] = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            found |= {f"{name}/{inner}": leaf for inner, leaf in leaves(feature).items()}
        else:
            found[name] = feature
    return found


def select_features(features: Feature, paths: Collection[str]) -> Feature:
    """Returns a FeaturesDict of the features at some paths alone: the others are then not parsed."""
    return tfds.features.FeaturesDict(_select(features, frozenset(paths), ""))


def _select(features: Feature, paths: Collection[str], above: str) -> dict[str, Feature]:
    kept: dict[str, Feature] = {}
    for name, feature in features.items():
        path = f"{above}{name}"
        if path in paths:
            kept[name] = feature
        elif any(wanted.startswith(f"{path}/") for wanted in paths):
            kept[name] = _select(feature, paths, f"{path}/")
    return kept


def value_at(example: Mapping[str, Any], path: str) -> Any:
    """Returns the value of an example at a path.

    Example:
      >>> value_at({"attributes": {"Smiling": True}}, "attributes/Smiling")
      True
    """
    found: Any = example
    for name in path.split("/"):
        found = found[name]
    return found


def feature_kind(feature: Feature) -> str | None:
    """Returns ``class``, ``bool``, ``int`` or ``text``; None: the feature cannot be an attribute.

    Example:
      >>> feature_kind(tfds.features.ClassLabel(num_classes=3)), feature_kind(tfds.features.Text())
      ('class', 'text')
      >>> print(feature_kind(tfds.features.Image()))
      None
    """
    if isinstance(feature, tfds.features.ClassLabel) and feature.num_classes is not None:
        return "class"
    if not isinstance(feature, tfds.features.Tensor) or feature.shape != ():
        return None
    dtype = np.dtype(feature.np_dtype)
    return {"b": "bool", "i": "int", "u": "int", "O": "text", "S": "text", "U": "text"}.get(dtype.kind)


def feature_labels(
    feature: Feature, cells: Sequence[Any], min_count: int = 1
) -> tuple[tuple[str, ...], Int[np.ndarray, " M"]]:
    """Returns the values and the labels of an attribute.

    The values of a class are the names of the data set in their order, those of a truth value ``no`` and
    ``yes``, those of a whole number or a text all that occur, in ascending order. Class -1 and a blank text
    are "not labelled".

    Args:
      feature: the feature of the attribute.
      cells: the values of M examples.
      min_count: the least number of examples of a value; examples of rarer ones become "not labelled". At 1 a
        class keeps all its values.

    Returns:
      The values, and labels int32 [M].

    Raises:
      ValueError, TypeError, OverflowError: a value is missing, or is none of the feature's.

    Example:
      >>> feature_labels(tfds.features.ClassLabel(names=["red", "blue"]), [1, -1, 0])
      (('red', 'blue'), array([ 1, -1,  0], dtype=int32))
      >>> feature_labels(tfds.features.Text(), [b"red", b"", b"blue"])
      (('blue', 'red'), array([ 1, -1,  0], dtype=int32))
    """
    kind = feature_kind(feature)
    if kind in ("class", "bool"):
        names = tuple(feature.names) if kind == "class" else ("no", "yes")
        index = np.asarray(cells, np.int64)
        if index.size and not (index.min() >= -1 and index.max() < len(names)):
            raise ValueError(
                f"{index.min():,} to {index.max():,} are not numbers of its {len(names):,} values"
            )
    else:
        named = np.asarray(cells, np.int64) if kind == "int" else np.array([_text(cell) for cell in cells])
        distinct, index = np.unique(named, return_inverse=True)
        blank = int(kind == "text" and len(distinct) > 0 and distinct[0] == "")  # sorts before all others
        names, index = tuple(map(str, distinct[blank:].tolist())), index - blank
    kept = np.bincount(index[index >= 0], minlength=len(names)) >= (min_count if min_count > 1 else 0)
    # Index -1 picks the last entry: not labelled.
    position = np.append(np.where(kept, np.cumsum(kept) - 1, NOT_LABELLED), NOT_LABELLED)
    values = tuple(name for name, keep in zip(names, kept, strict=True) if keep)
    return values, position[index].astype(np.int32)


def _text(cell: bytes | str) -> str:
    return (cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell).strip()
