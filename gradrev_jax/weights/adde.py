"""An encoder and its memory as ADDE-M names and lays them out in torch, and back, bit for bit.

``backbone.*`` are torchvision's AlexNet's, ``dis_proj.n.{0,2}`` the two layers of the MLP of attribute n,
``attr_classifier.n.0`` its classifier, and ``Memory.weight`` the memory, [N*d, J]. ADDE-M has no N x N
classifiers; here they are ``attr_classifier.j.n.0``: that of attribute n, which reads the feature of
attribute j. A file has no names of attributes, so their order is that of the catalogue it was trained on.
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
from gradrev_jax.weights.alexnet import FILTERS, FIRST_BIAS, MODULES, backbone_layout, backbone_of
from gradrev_jax.weights.state_dicts import fitting, laid_out_shapes, only, unwrapped

BACKBONE, MEMORY_WEIGHT = "backbone.", "Memory.weight"
MLP_LAYERS = {"mlp_hidden": 0, "mlp_out": 2}  # ours -> its place in torch's Sequential
ENCODER_KIND, MEMORY_KIND = "attribute encoder (backbone.*, dis_proj.*, attr_classifier.*)", "memory"
UNUSED = re.compile(r".*\.num_batches_tracked|backbone\.classifier\.6\.(weight|bias)")
LAST_LAYER = re.compile(rf"{re.escape(BACKBONE + MODULES['fc7'])}\.(weight|bias)")


class Architecture(NamedTuple):
    """What the names and shapes of an encoder's tensors say of it; None where they say nothing.

    Attributes:
      sizes: number of values of each attribute; (): no classifier for each MLP.
      pairwise: whether each feature has classifiers of its own.
      feature_dim: d.
      filters: of the backbone's first convolution.
      has_fc7: whether the backbone goes on to fc7.
    """

    sizes: tuple[int, ...]
    pairwise: bool
    feature_dim: int | None
    filters: int | None
    has_fc7: bool


def encoder_to_torch(params: Mapping[str, Any], schema: AttributeSchema) -> dict[str, np.ndarray]:
    """An encoder's parameters as a state dict of torch's.

    Args:
      params: of an ``AttributeEncoder``, ``{"params": {"backbone": ..., ...}}``.
      schema: its attributes.

    Returns:
      Name -> array of its own, float32.

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
    return _owned(_layout(jax.tree.map(np.asarray, params), schema=schema))


def encoder_from_torch(
    params: Mapping[str, Any], tensors: Mapping[str, np.ndarray], schema: AttributeSchema
) -> dict[str, Any]:
    """An encoder's parameters from a state dict of torch's.

    Names, shapes and dtypes are all checked before anything is converted. What torchvision's backbone or
    batch normalisation has besides is left out, ``backbone.classifier.4`` too where the tap is before it.

    Args:
      params: of an ``AttributeEncoder``, for their shapes; ``jax.eval_shape`` of its ``init`` serves.
      tensors: the state dict; wrappers, as ``module.``, may stand before all names, see ``unwrapped``.
      schema: the attributes.

    Returns:
      A tree like params, in float32.

    Raises:
      WeightsError: it is of another model, or tensors are missing, left over, of other shapes, no
        floating-point numbers, or not finite.

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
    shapes = laid_out_shapes(functools.partial(_layout, schema=schema), params)
    tensors = {name: tensor for name, tensor in unwrapped(tensors).items() if not UNUSED.fullmatch(name)}
    layers = params["params"]["backbone"]
    if "fc7" not in layers:
        tensors = {name: tensor for name, tensor in tensors.items() if not LAST_LAYER.fullmatch(name)}
    _check_architecture(architecture(tensors), _architecture(shapes))
    found = fitting(tensors, shapes, kind=ENCODER_KIND)
    only(tensors, list(shapes), kind=ENCODER_KIND)
    return {
        "params": {
            "backbone": backbone_of(layers, found, BACKBONE),
            **{layer: _mlp(layer, found, schema.num_attributes) for layer in MLP_LAYERS},
            "heads": _heads(found, schema, pairwise=params["params"]["heads"]["kernel"].ndim == 3),
        }
    }


def memory_to_torch(memory: Float[Array | np.ndarray, "J N d"]) -> dict[str, np.ndarray]:
    """A memory as a state dict of torch's: ``Memory.weight``, [N*d, J], of a linear layer without a bias.

    Example:
      >>> memory_to_torch(jnp.zeros((5, 2, 8)))["Memory.weight"].shape
      (16, 5)
    """
    memory = np.asarray(memory)
    return _owned({MEMORY_WEIGHT: memory.reshape(len(memory), -1).T})


def memory_from_torch(
    tensors: Mapping[str, np.ndarray], schema: AttributeSchema, feature_dim: int
) -> Float[Array, "J N d"]:
    """A memory from a state dict of torch's.

    Args:
      tensors: ``Memory.weight``, [N*d, J]; wrappers, as ``module.``, may stand before it, see ``unwrapped``.
      schema: the attributes.
      feature_dim: d.

    Raises:
      WeightsError: it is none, of another shape, no floating-point numbers, or not finite.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> memory = jnp.arange(80.0).reshape(5, 2, 8)
      >>> bool((memory_from_torch(memory_to_torch(memory), schema, 8) == memory).all())
      True
    """
    tensors = unwrapped(tensors)
    n, j = schema.num_attributes, schema.num_values
    hint = f"\n{n} attributes of {feature_dim} numbers each, by {j} values."
    found = fitting(tensors, {MEMORY_WEIGHT: (n * feature_dim, j)}, kind=MEMORY_KIND, hint=hint)
    only(tensors, [MEMORY_WEIGHT], kind=MEMORY_KIND)
    return jnp.array(found[MEMORY_WEIGHT].T.reshape(j, n, feature_dim))


def architecture(tensors: Mapping[str, np.ndarray]) -> Architecture:
    """What the names and shapes in a state dict say of its encoder.

    Args:
      tensors: a state dict; wrappers, as ``module.``, may stand before all names, see ``unwrapped``.

    Example:
      >>> tensors = {"dis_proj.0.2.weight": np.ones((8, 8)), "attr_classifier.0.0.weight": np.ones((3, 8))}
      >>> architecture(tensors)
      Architecture(sizes=(3,), pairwise=False, feature_dim=8, filters=None, has_fc7=False)
    """
    return _architecture({name: tensor.shape for name, tensor in unwrapped(tensors).items()})


def _architecture(shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    def lengths(name: str) -> tuple[int, ...]:
        """Number of outputs of a module of each attribute, up to the first that is not there."""
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


def _check_architecture(there: Architecture, here: Architecture) -> None:
    """Raise, in words, where a file's encoder is another one than the model, as far as the file says."""
    problems = []
    if there.sizes and there.sizes != here.sizes:
        problems.append(f"the file has {_described(there.sizes)}, the catalogue {_described(here.sizes)}")
    if there.sizes and there.pairwise != here.pairwise:
        heads = {False: "shared", True: "pairwise"}
        problems.append(
            f"the file's heads are {heads[there.pairwise]}, model.heads is {heads[here.pairwise]}"
        )
    if there.feature_dim not in (None, here.feature_dim):
        problems.append(
            f"the file's features are {there.feature_dim} wide, model.feature_dim is {here.feature_dim}"
        )
    if there.filters not in (None, here.filters):
        problems.append(
            f"the file's backbone begins with {there.filters} filters, the model's with {here.filters}; "
            f"set model.width to {there.filters / FILTERS:g}"
        )
    if there.sizes and here.has_fc7 and not there.has_fc7:
        problems.append("the file's backbone ends at fc6; set model.tap to fc6_relu or fc6")
    if problems:
        raise WeightsError("; ".join(problems))


def _described(sizes: tuple[int, ...]) -> str:
    plural = "" if len(sizes) == 1 else "s"
    return f"{len(sizes)} attribute{plural} of {', '.join(map(str, sizes))} values"


def _owned(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies with their elements in order, which whatever writes them may need."""
    return {name: np.array(tensor, order="C") for name, tensor in tensors.items()}


def _layout(params: Mapping[str, Any], *, schema: AttributeSchema) -> dict[str, Any]:
    """An encoder's parameters under torch's names and in its layout, of arrays of any kind."""
    parts = params["params"]
    tensors = {f"{BACKBONE}{name}": tensor for name, tensor in backbone_layout(parts["backbone"]).items()}
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
    """One layer of all MLPs, [N, inputs, d] and [N, d]."""
    names = [f"dis_proj.{n}.{MLP_LAYERS[layer]}" for n in range(num_attributes)]
    return {
        "kernel": jnp.array(np.stack([tensors[f"{name}.weight"].T for name in names])),
        "bias": jnp.array(np.stack([tensors[f"{name}.bias"] for name in names])),
    }


def _heads(
    tensors: Mapping[str, np.ndarray], schema: AttributeSchema, *, pairwise: bool
) -> dict[str, jax.Array]:
    """The classifiers, [d, J] and [J], or [N, d, J] and [N, J]."""

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
