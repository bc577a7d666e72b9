"""PyTorch state dicts: selects the tensors that a model needs, checked and converted to float32."""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError, join_lines

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]
SHOWN = 4  # the number of other names shown in an error
# Prefixes of all names in a model that was saved inside a wrapper: DataParallel, torch.compile, a training
# module, or a running average. Nested wrappers add one prefix each.
WRAPPERS = ("module.", "_orig_mod.", "model.", "ema.")
COUNTERS = ("n_averaged",)  # what torch's AveragedModel has beside the model


class Hint(NamedTuple):
    """The last line of an error about shapes.

    Attributes:
      text: the line.
      arguments: the function arguments that it names, see ``UserError``.
    """

    text: str
    arguments: tuple[str, ...] = ()


def layout_shapes(layout: Callable[[Any], Mapping[str, Any]], params: Any) -> dict[str, tuple[int, ...]]:
    """Returns the name and shape of each tensor that a layout makes of parameters, without computing any.

    Args:
      layout: a function from parameters to tensors by name, which also accepts traced arrays.
      params: a tree of arrays, or of their shapes.

    Example:
      >>> layout_shapes(lambda params: {"fc.weight": params["kernel"].T}, {"kernel": np.ones((2, 3))})
      {'fc.weight': (3, 2)}
    """
    # An OrderedDict keeps the order of the names; JAX sorts those of a dict.
    tensors = jax.eval_shape(lambda params: OrderedDict(layout(params)), params)
    return {name: tensor.shape for name, tensor in tensors.items()}


def strip_wrappers(tensors: Mapping[str, T]) -> dict[str, T]:
    """Removes the prefixes of wrappers from the names of tensors, as long as all names have them.

    What a wrapper counts beside the model is left out with its prefix.

    Args:
      tensors: a state dict, or other values by the names of tensors.

    Example:
      >>> strip_wrappers({"module._orig_mod.fc.weight": 1, "module._orig_mod.fc.bias": 2})
      {'fc.weight': 1, 'fc.bias': 2}
      >>> strip_wrappers({"model.fc.weight": 1, "ema.fc.weight": 2})
      {'model.fc.weight': 1, 'ema.fc.weight': 2}
    """
    found = dict(tensors)
    while inside := {name: tensor for name, tensor in found.items() if name not in COUNTERS}:
        shared = [prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in inside)]
        if not shared:
            break
        found = {name.removeprefix(shared[0]): tensor for name, tensor in inside.items()}
    return found


def select_tensors(
    tensors: Mapping[str, np.ndarray],
    shapes: Shapes,
    *,
    kind: str,
    prefixes: Sequence[str] = ("",),
    hint: Hint | None = None,
) -> dict[str, np.ndarray]:
    """Selects tensors by name and converts them to float32, after checking all names, shapes and dtypes.

    Args:
      tensors: a state dict; its other tensors are ignored.
      shapes: the name and shape of each tensor that is needed.
      kind: the kind of model, for errors, for example ``"torchvision AlexNet"``.
      prefixes: the prefixes that all names may have; the one that most of them have is used.
      hint: the last line of an error about shapes.

    Raises:
      WeightsError: tensors are missing, have other shapes, are not floating-point numbers, or not finite.

    Example:
      >>> select_tensors({"a.bias": np.ones(2, np.float16)}, {"bias": (2,)}, kind="layer", prefixes=("a.",))
      {'bias': array([1., 1.], dtype=float32)}
    """
    found = _find(tensors, list(shapes), kind, prefixes)
    _check(found, shapes, hint)
    return {name: _as_float32(name, tensor) for name, tensor in found.items()}


def check_no_other_tensors(tensors: Mapping[str, np.ndarray], names: Sequence[str], *, kind: str) -> None:
    """Raises an error if a state dict has tensors of other names.

    Args:
      tensors: a state dict.
      names: the names that are allowed.
      kind: the kind of model, for errors.

    Raises:
      WeightsError: the state dict has others; the message shows the first few.

    Example:
      >>> check_no_other_tensors({"bias": np.ones(2), "extra": np.ones(2)}, ["bias"], kind="layer")
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: 1 tensor has no place in a layer:
        extra
    """
    if others := sorted(tensors.keys() - set(names)):
        lines = others[:SHOWN] + (["..."] if len(others) > SHOWN else [])
        counted = "1 tensor has" if len(others) == 1 else f"{len(others)} tensors have"
        raise WeightsError(f"{counted} no place in a {kind}:\n{join_lines(lines, most=None)}")


def contiguous_copies(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies the tensors of a state dict to row-major order, which writers of files may need.

    Args:
      tensors: a state dict.

    Example:
      >>> contiguous_copies({"weight": np.ones((2, 3)).T})["weight"].flags.c_contiguous
      True
    """
    return {name: np.array(tensor, order="C") for name, tensor in tensors.items()}


def _find(
    tensors: Mapping[str, np.ndarray], names: Sequence[str], kind: str, prefixes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns the tensors of these names, found under the prefix that most of them have."""
    prefix = max(prefixes, key=lambda prefix: sum(prefix + name in tensors for name in names))
    missing = [name for name in names if prefix + name not in tensors]
    unused = sorted(tensors.keys() - {prefix + name for name in names})
    if len(missing) > len(names) / 2:
        there = ", ".join(unused[:SHOWN]) + (", ..." if len(unused) > SHOWN else "")
        raise WeightsError(
            f"this is no {kind}: {len(missing)} of {len(names)} tensors are missing, "
            f"for example {missing[0]}; the file has {there or 'no others'}"
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


def _check(found: Mapping[str, np.ndarray], shapes: Shapes, hint: Hint | None) -> None:
    """Raises an error unless all tensors have these shapes and are floating-point numbers."""
    differing = [
        f"{name} has shape {tensor.shape}; the model needs {shapes[name]}"
        for name, tensor in found.items()
        if tensor.shape != shapes[name]
    ]
    if differing:
        message = f"tensors do not fit the model:\n{join_lines(differing, most=None)}"
        if hint is None:
            raise WeightsError(message)
        raise WeightsError(f"{message}\n{hint.text}", arguments=hint.arguments)
    if others := [
        f"{name}: {tensor.dtype}"
        for name, tensor in found.items()
        if not jnp.issubdtype(tensor.dtype, jnp.floating)
    ]:
        raise WeightsError(f"weights must be floating-point numbers, but\n{join_lines(others, most=None)}")


def _as_float32(name: str, tensor: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # the error below says it
        converted = tensor.astype(np.float32, copy=False)
    if not np.isfinite(converted).all():
        raise WeightsError(f"{name} has numbers that are not finite in float32; use another file")
    return converted
