"""Digests and shapes of the arrays of a checkpoint, by which damage on the disk is found."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gradrev_jax import distributed

Shapes = dict[str, tuple[int, ...]]
# Of each leaf, by its name: its dtype, its shape and the CRC-32 of its bytes, as JSON has them.
Digests = dict[str, list[Any]]


def digests(items: Mapping[str, Any]) -> Digests:
    """Returns the digests of all leaves of some trees.

    Args:
      items: name -> pytree of arrays.

    Example:
      >>> digests({"params": {"bias": np.zeros(2, np.float32)}})
      {'params/bias': ['float32', [2], 1696784233]}
    """
    return {
        name: [leaf.dtype.name, list(leaf.shape), zlib.crc32(_bytes(leaf))]
        for name, leaf in named_leaves(items)
    }


def damaged_leaves(items: Mapping[str, Any], written: Digests) -> list[str]:
    """Returns the names of the leaves whose bytes are not those that were written.

    Args:
      items: name -> pytree of arrays, as they were read; some of those written are enough, and those that
        were read as another dtype are not compared.
      written: the digests of the leaves when they were written.

    Example:
      >>> damaged_leaves({"params": {"bias": np.zeros(2, np.float32)}}, {"params/bias": ["float32", [2], 7]})
      ['params/bias']
    """
    return [
        name
        for name, digest in digests(items).items()
        if name in written and written[name][0] == digest[0] and written[name] != digest
    ]


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Returns the leaves of a tree with their names.

    Example:
      >>> named_leaves({"a": {"b": 1}})
      [('a/b', 1)]
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def shapes(tree: Any) -> Shapes:
    """Returns the shapes of the leaves of a tree by their names.

    Example:
      >>> shapes({"params": {"bias": np.zeros(2, np.float32)}})
      {'params/bias': (2,)}
    """
    return {name: tuple(leaf.shape) for name, leaf in named_leaves(tree)}


def leaf_differences(there: Shapes, here: Shapes) -> str:
    """Returns the first leaves that two trees do not have alike; empty if there are none.

    Example:
      >>> leaf_differences({"bias": (2,)}, {"bias": (3,)})
      'bias is (2,) there, (3,) here'
    """
    differing = [
        f"{name} is {there.get(name, 'missing')} there, {here.get(name, 'unknown')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    return "; ".join(differing[:3]) + (", ..." if len(differing) > 3 else "")


def _bytes(leaf: Any) -> Any:
    """Returns the bytes of an array, of which every device has a whole copy."""
    array = np.ascontiguousarray(jax.device_get(distributed.addressable(leaf)))
    return array.reshape(-1).view(np.uint8)
