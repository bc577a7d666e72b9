"""State dicts of torch's: the tensors that a model needs of them, checked and in float32."""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError, join_lines

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]
SHOWN = 4  # names of others in an error
# What stands before all names of a model that was saved within DataParallel, torch.compile or a training
# module, or as its running average; within several, one after the other.
WRAPPERS = ("module.", "_orig_mod.", "model.", "ema.")


def laid_out_shapes(layout: Callable[[Any], Mapping[str, Any]], params: Any) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor that a layout makes of parameters, without computing one.

    Args:
      layout: parameters -> tensors by name; of traced arrays too.
      params: a tree of arrays, or of their shapes.

    Example:
      >>> laid_out_shapes(lambda params: {"fc.weight": params["kernel"].T}, {"kernel": np.ones((2, 3))})
      {'fc.weight': (3, 2)}
    """
    # An OrderedDict, because JAX would sort the names of a dict.
    tensors = jax.eval_shape(lambda params: OrderedDict(layout(params)), params)
    return {name: tensor.shape for name, tensor in tensors.items()}


def unwrapped(tensors: Mapping[str, T]) -> dict[str, T]:
    """Tensors without the names of wrappers, which are taken off where all tensors have them.

    Args:
      tensors: a state dict, or anything by its tensors' names.

    Example:
      >>> unwrapped({"module._orig_mod.fc.weight": 1, "module._orig_mod.fc.bias": 2})
      {'fc.weight': 1, 'fc.bias': 2}
      >>> unwrapped({"model.fc.weight": 1, "ema.fc.weight": 2})
      {'model.fc.weight': 1, 'ema.fc.weight': 2}
    """
    found = dict(tensors)
    while found:
        shared = [prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in found)]
        if not shared:
            break
        found = {name.removeprefix(shared[0]): tensor for name, tensor in found.items()}
    return found


def fitting(
    tensors: Mapping[str, np.ndarray],
    shapes: Shapes,
    *,
    kind: str,
    prefixes: Sequence[str] = ("",),
    hint: str = "",
) -> dict[str, np.ndarray]:
    """Tensors of these names, in float32; names, shapes and dtypes are all checked first.

    Args:
      tensors: a state dict; what it has besides is not looked at.
      shapes: name -> shape of each tensor that is needed.
      kind: of model, for errors, as ``"AlexNet of torchvision's"``.
      prefixes: what may stand before all names; that which most of them have is taken.
      hint: ends the error where shapes differ.

    Raises:
      WeightsError: tensors are missing, of other shapes, no floating-point numbers, or not finite.

    Example:
      >>> fitting({"a.bias": np.ones(2, np.float16)}, {"bias": (2,)}, kind="layer", prefixes=("a.",))
      {'bias': array([1., 1.], dtype=float32)}
    """
    found = _find(tensors, list(shapes), kind, prefixes)
    _check(found, shapes, hint)
    return {name: _as_float32(name, tensor) for name, tensor in found.items()}


def only(tensors: Mapping[str, np.ndarray], names: Sequence[str], *, kind: str) -> None:
    """Raise where a state dict has a tensor of another name.

    Raises:
      WeightsError: it has; the message names the first few.

    Example:
      >>> only({"bias": np.ones(2), "extra": np.ones(2)}, ["bias"], kind="layer")
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: 1 tensor has no place in a layer:
        extra
    """
    if others := sorted(tensors.keys() - set(names)):
        lines = others[:SHOWN] + (["..."] if len(others) > SHOWN else [])
        counted = "1 tensor has" if len(others) == 1 else f"{len(others)} tensors have"
        raise WeightsError(f"{counted} no place in a {kind}:\n{join_lines(lines, most=None)}")


def _find(
    tensors: Mapping[str, np.ndarray], names: Sequence[str], kind: str, prefixes: Sequence[str]
) -> dict[str, np.ndarray]:
    """The named tensors, under the prefix that most of them have."""
    prefix = max(prefixes, key=lambda prefix: sum(prefix + name in tensors for name in names))
    missing = [name for name in names if prefix + name not in tensors]
    unused = sorted(tensors.keys() - {prefix + name for name in names})
    if len(missing) > len(names) / 2:
        there = ", ".join(unused[:SHOWN]) + (", ..." if len(unused) > SHOWN else "")
        raise WeightsError(
            f"this is no {kind}: {len(missing)} of {len(names)} tensors are missing, "
            f"{missing[0]} for one, and it has {there or 'no others'}"
        )
    if missing:
        lines = []
        for name in missing:
            near = difflib.get_close_matches(prefix + name, unused, n=1, cutoff=0.8)
            lines.append(prefix + name + (f" (there is {near[0]})" if near else ""))
        verb = "is" if len(missing) == 1 else "are"
        raise WeightsError(
            f"{len(missing)} of {len(names)} tensors {verb} missing:\n{join_lines(lines, most=None)}"
        )
    return {name: tensors[prefix + name] for name in names}


def _check(found: Mapping[str, np.ndarray], shapes: Shapes, hint: str) -> None:
    """Raise unless all tensors have their shapes, and are floating-point numbers."""
    differing = [
        f"{name} is {tensor.shape}, and {shapes[name]} is wanted"
        for name, tensor in found.items()
        if tensor.shape != shapes[name]
    ]
    if differing:
        raise WeightsError(f"tensors do not fit the model:\n{join_lines(differing, most=None)}{hint}")
    if others := [
        f"{name}: {tensor.dtype}"
        for name, tensor in found.items()
        if not jnp.issubdtype(tensor.dtype, jnp.floating)
    ]:
        raise WeightsError(f"weights must be floating-point numbers, but\n{join_lines(others, most=None)}")


def _as_float32(name: str, tensor: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # told of below
        converted = tensor.astype(np.float32, copy=False)
    if not np.isfinite(converted).all():
        raise WeightsError(f"{name} holds numbers that are not finite (in float32); the file is of no use")
    return converted
