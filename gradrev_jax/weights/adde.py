"""Converts an encoder and its memory to the state dicts of ADDE-M's PyTorch code and back, bit for bit.

The tensors of a state dict are

- ``backbone.*``: AlexNet, as torchvision names its tensors;
- ``dis_proj.n.{0,2}``: the two layers of the MLP of attribute n;
- ``attr_classifier.n.0``: the classifier of attribute n; with N x N classifiers, which ADDE-M does not have,
  ``attr_classifier.j.n.0`` is the classifier of attribute n that reads the feature of attribute j;
- ``Memory.weight``: the memory, [N*d, J].

A file has no names of attributes; their order is that of the catalogue it was trained on.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.alexnet import FILTERS, FIRST_BIAS, MODULES, backbone_to_torch, layers_from_torch
from gradrev_jax.weights.state_dicts import (
    Hint,
    check_no_other_tensors,
    contiguous_copies,
    layout_shapes,
    select_tensors,
    strip_wrappers,
)

BACKBONE, MEMORY_WEIGHT = "backbone.", "Memory.weight"
MLP_LAYERS = {"mlp_hidden": 0, "mlp_out": 2}  # layer of ``AttributeEncoder`` -> index in torch's Sequential
ENCODER_KIND, MEMORY_KIND = "attribute encoder (backbone.*, dis_proj.*, attr_classifier.*)", "memory"
UNUSED = re.compile(r".*\.num_batches_tracked|backbone\.classifier\.6\.(weight|bias)")
LAST_LAYER = re.compile(rf"{re.escape(BACKBONE + MODULES['fc7'])}\.(weight|bias)")


class Architecture(NamedTuple):
    """The architecture of an encoder, inferred from the names and shapes of its tensors.

    Attributes:
      sizes: the number of values of each attribute; empty if the MLPs and classifiers differ in number.
      pairwise: whether each feature has its own classifiers.
      feature_dim: the width of a feature, d; None if there is no MLP.
      filters: the number of filters of the backbone's first convolution; None if there is none.
      has_fc7: whether the backbone has the layer fc7.
    """

    sizes: tuple[int, ...]
    pairwise: bool
    feature_dim: int | None
    filters: int | None
    has_fc7: bool


def encoder_to_torch(params: Mapping[str, Any], schema: AttributeSchema) -> dict[str, np.ndarray]:
    """Converts an encoder's parameters to a state dict.

    Args:
      params: the parameters of an ``AttributeEncoder``, ``{"params": {"backbone": ..., ...}}``.
      schema: the attributes.

    Returns:
      The tensors by name, float32 arrays that share no memory with the parameters.

    Raises:
      WeightsError: the encoder has unit features, whose classifiers PyTorch's checkpoints cannot hold.

    Example:
      >>> from gradrev_jax import AttributeEncoder
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> encoder = AttributeEncoder(schema, feature_dim=8, width=1 / 32)
      >>> shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
      >>> params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
      >>> tensors = encoder_to_torch(params, schema)
      >>> tensors["dis_proj.1.2.weight"].shape, tensors["attr_classifier.1.0.weight"].shape
      ((8, 8), (3, 8))
    """
    return contiguous_copies(_to_torch(jax.tree.map(np.asarray, params), schema=schema))


def encoder_from_torch(
    params: Mapping[str, Any], tensors: Mapping[str, np.ndarray], schema: AttributeSchema
) -> dict[str, Any]:
    """Converts a state dict to an encoder's parameters.

    All names, shapes and dtypes are checked before any tensor is converted. The last layer of torchvision's
    AlexNet and the counters of batch normalisation are ignored, and so is ``backbone.classifier.4`` if the
    tap is before it.

    Args:
      params: the parameters of an ``AttributeEncoder``, or ``jax.eval_shape`` of its ``init``; only their
        shapes are used.
      tensors: the state dict; all names may have the prefixes of wrappers, see ``strip_wrappers``.
      schema: the attributes.

    Returns:
      A tree like ``params``, in float32.

    Raises:
      WeightsError: the encoder has unit features; the file is of another model; or tensors are missing, left
        over, have other shapes, are not floating-point numbers, or not finite.

    Example:
      >>> from gradrev_jax import AttributeEncoder
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> encoder = AttributeEncoder(schema, feature_dim=8, width=1 / 32)
      >>> shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
      >>> params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
      >>> again = encoder_from_torch(shapes, encoder_to_torch(params, schema), schema)
      >>> jax.tree.all(jax.tree.map(np.array_equal, again, params))
      True
    """
    shapes = layout_shapes(functools.partial(_to_torch, schema=schema), params)
    tensors = strip_wrappers(tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if not UNUSED.fullmatch(name)}
    layers = params["params"]["backbone"]
    if "fc7" not in layers:
        tensors = {name: tensor for name, tensor in tensors.items() if not LAST_LAYER.fullmatch(name)}
    _check_architecture(infer_architecture(tensors), _architecture_of_shapes(shapes))
    found = select_tensors(tensors, shapes, kind=ENCODER_KIND)
    check_no_other_tensors(tensors, list(shapes), kind=ENCODER_KIND)
    return {
        "params": {
            "backbone": layers_from_torch(layers, found, BACKBONE),
            **{layer: _mlp(layer, found, schema.num_attributes) for layer in MLP_LAYERS},
            "heads": _heads(found, schema, pairwise=params["params"]["heads"]["kernel"].ndim == 3),
        }
    }


def memory_to_torch(memory: Float[Array | np.ndarray, "J N d"]) -> dict[str, np.ndarray]:
    """Converts a memory to a state dict: the weight [N*d, J] of a linear layer without a bias.

    Args:
      memory: the memory, [J, N, d].

    Example:
      >>> memory_to_torch(jnp.zeros((5, 2, 8)))["Memory.weight"].shape
      (16, 5)
    """
    memory = np.asarray(memory)
    return contiguous_copies({MEMORY_WEIGHT: memory.reshape(len(memory), -1).T})


def memory_from_torch(
    tensors: Mapping[str, np.ndarray], schema: AttributeSchema, feature_dim: int
) -> Float[Array, "J N d"]:
    """Converts a state dict to a memory.

    Args:
      tensors: the state dict, ``Memory.weight`` [N*d, J]; the name may have the prefixes of wrappers, see
        ``strip_wrappers``.
      schema: the attributes.
      feature_dim: the width of a feature, d.

    Raises:
      WeightsError: the tensor is missing or not the only one, has another shape, is not of floating-point
        numbers, or not finite.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> memory = jnp.arange(80.0).reshape(5, 2, 8)
      >>> bool((memory_from_torch(memory_to_torch(memory), schema, 8) == memory).all())
      True
    """
    tensors = strip_wrappers(tensors)
    n, j = schema.num_attributes, schema.num_values
    hint = Hint(f"The model has {n} attributes with features of width {feature_dim}, and {j} values.")
    found = select_tensors(tensors, {MEMORY_WEIGHT: (n * feature_dim, j)}, kind=MEMORY_KIND, hint=hint)
    check_no_other_tensors(tensors, [MEMORY_WEIGHT], kind=MEMORY_KIND)
    return jnp.array(found[MEMORY_WEIGHT].T.reshape(j, n, feature_dim))


def infer_architecture(tensors: Mapping[str, np.ndarray]) -> Architecture:
    """Infers the architecture of an encoder from the names and shapes of its tensors.

    Args:
      tensors: a state dict; all names may have the prefixes of wrappers, see ``strip_wrappers``.

    Example:
      >>> tensors = {"dis_proj.0.2.weight": np.ones((8, 8)), "attr_classifier.0.0.weight": np.ones((3, 8))}
      >>> infer_architecture(tensors)
      Architecture(sizes=(3,), pairwise=False, feature_dim=8, filters=None, has_fc7=False)
    """
    return _architecture_of_shapes({name: tensor.shape for name, tensor in strip_wrappers(tensors).items()})


def _architecture_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    def lengths(name: str) -> tuple[int, ...]:
        """Returns the number of outputs of each attribute's module, up to the first that is missing."""
        found: list[int] = []
        while shape := shapes.get(name.format(n=len(found))):
            found.append(shape[0])
        return tuple(found)

    pairwise = "attr_classifier.0.0.0.weight" in shapes
    mlps = lengths(f"dis_proj.{{n}}.{MLP_LAYERS['mlp_out']}.weight")
    sizes = lengths(f"attr_classifier.{'0.' * pairwise}{{n}}.0.weight")
    filters = shapes.get(f"{BACKBONE}{FIRST_BIAS}")
    return Architecture(
        sizes if len(sizes) == len(mlps) else (),
        pairwise,
        mlps[0] if mlps else None,
        filters[0] if filters else None,
        any(map(LAST_LAYER.fullmatch, shapes)),
    )


def _check_architecture(file: Architecture, model: Architecture) -> None:
    """Raises an error if the architecture of a file differs from that of the model, as far as it is known."""
    problems, arguments = [], []
    if file.sizes and file.sizes != model.sizes:
        problems.append(
            f"the file has {_describe_sizes(file.sizes)}, the catalogue {_describe_sizes(model.sizes)}"
        )
    if file.sizes and file.pairwise != model.pairwise:
        heads = {False: "shared", True: "pairwise"}
        problems.append(f"the file has {heads[file.pairwise]} heads, `heads` is {heads[model.pairwise]}")
        arguments.append("heads")
    if file.feature_dim not in (None, model.feature_dim):
        problems.append(
            f"the file has features of width {file.feature_dim}, `feature_dim` is {model.feature_dim}"
        )
        arguments.append("feature_dim")
    if file.filters not in (None, model.filters):
        problems.append(
            f"the first convolution has {file.filters} filters in the file and {model.filters} in the model; "
            f"set `width` to {file.filters / FILTERS:g}"
        )
        arguments.append("width")
    if file.sizes and model.has_fc7 and not file.has_fc7:
        problems.append("the backbone of the file ends at fc6; set `tap` to fc6_relu or fc6")
        arguments.append("tap")
    if problems:
        raise WeightsError("; ".join(problems), arguments=arguments)


def _describe_sizes(sizes: tuple[int, ...]) -> str:
    plural = "" if len(sizes) == 1 else "s"
    return f"{len(sizes)} attribute{plural} of {', '.join(map(str, sizes))} values"


def _to_torch(params: Mapping[str, Any], *, schema: AttributeSchema) -> dict[str, Any]:
    """Renames and transposes an encoder's parameters, which may be NumPy's, JAX's or traced arrays."""
    parts = params["params"]
    if "bias" not in parts["heads"]:
        raise WeightsError(
            "the files have biases, and classifiers of unit features none; `unit_features` must be off",
            arguments=("unit_features",),
        )
    tensors = {f"{BACKBONE}{name}": tensor for name, tensor in backbone_to_torch(parts["backbone"]).items()}
    for n in range(schema.num_attributes):
        for layer, place in MLP_LAYERS.items():
            tensors[f"dis_proj.{n}.{place}.weight"] = parts[layer]["kernel"][n].T
            tensors[f"dis_proj.{n}.{place}.bias"] = parts[layer]["bias"][n]
    kernel, bias = parts["heads"]["kernel"], parts["heads"]["bias"]
    readers = [(f"{j}.", kernel[j], bias[j]) for j in range(len(kernel))] if kernel.ndim == 3 else []
    for reader, weights, offsets in readers or [("", kernel, bias)]:
        for n, (start, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
            tensors[f"attr_classifier.{reader}{n}.0.weight"] = weights[:, start : start + size].T
            tensors[f"attr_classifier.{reader}{n}.0.bias"] = offsets[start : start + size]
    return tensors


def _mlp(layer: str, tensors: Mapping[str, np.ndarray], num_attributes: int) -> dict[str, jax.Array]:
    """Returns one layer of all MLPs: the kernel [N, inputs, d] and the bias [N, d]."""
    names = [f"dis_proj.{n}.{MLP_LAYERS[layer]}" for n in range(num_attributes)]
    return {
        "kernel": jnp.array(np.stack([tensors[f"{name}.weight"].T for name in names])),
        "bias": jnp.array(np.stack([tensors[f"{name}.bias"] for name in names])),
    }


def _heads(
    tensors: Mapping[str, np.ndarray], schema: AttributeSchema, *, pairwise: bool
) -> dict[str, jax.Array]:
    """Returns the classifiers: kernel [d, J] and bias [J], or [N, d, J] and [N, J] if pairwise."""

    def all_values(reader: str) -> tuple[np.ndarray, np.ndarray]:
        names = [f"attr_classifier.{reader}{n}.0" for n in range(schema.num_attributes)]
        return (
            np.concatenate([tensors[f"{name}.weight"] for name in names]).T,
            np.concatenate([tensors[f"{name}.bias"] for name in names]),
        )

    if not pairwise:
        kernel, bias = all_values("")
    else:
        kernels, biases = zip(*(all_values(f"{j}.") for j in range(schema.num_attributes)), strict=True)
        kernel, bias = np.stack(kernels), np.stack(biases)
    return {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}
