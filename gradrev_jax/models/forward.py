"""Runs a model over any number of inputs: in batches, on all devices of this process."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8

from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder, EncoderOutput, FullOutput
from gradrev_jax.models.shards import AXIS
from gradrev_jax.progress import ProgressBar

Output = TypeVar("Output")
CONSTANT = "jax.const"  # the mark of a constant that is passed to a program as an argument

# From parameters and a batch of inputs, uint8 pixels [B, S, S, 3] or vectors [B, V, D].
Forward = Callable[
    [Any, UInt8[Array | np.ndarray, "B S S 3"] | Float[Array | np.ndarray, "B V D"]], EncoderOutput
]


@functools.lru_cache(maxsize=8)  # so that equal encoders are compiled once in a process
def make_forward(encoder: Encoder) -> Forward:
    """Returns a jitted function of (params, inputs) that gives an ``EncoderOutput`` without dropout.

    The inputs are uint8 images, or vectors, as ``models.inputs.Rows`` gives them.

    It runs on the device of its arguments.

    Args:
      encoder: the encoder, whose parameters are the function's first argument.
    """
    return jax.jit(lambda params, inputs: encoder.apply(params, encoder.inputs.normalize(inputs)))


@functools.lru_cache(maxsize=8)
def make_full_forward(encoder: Encoder) -> Callable[[Any, Any], FullOutput]:
    """Returns a jitted function like that of ``make_forward``, which gives a ``FullOutput``.

    Args:
      encoder: the encoder.
    """

    def full_forward(params: Any, inputs: Any) -> FullOutput:
        return cast(FullOutput, encoder.apply(params, encoder.inputs.normalize(inputs), method="full_output"))

    return jax.jit(full_forward, keep_unused=True)  # so that its program says which parameters it uses


def predict_batches(
    forward: Callable[[Any, Any], Output],
    params: Any,
    images: Rows,
    *,
    batch_size: int,
    description: str,
    share: slice | None = None,
    progress: bool = True,
) -> Iterator[tuple[slice, Output]]:
    """Yields the outputs of all images, or of a share of them, in order, with the rows of each batch in it.

    Each batch is sharded over the devices of this process. The last batch is padded to the full size, so that
    one compilation serves all batches; its padding is cut off from the outputs. A batch is read, or decoded,
    while the one before it is computed.

    Args:
      forward: a jitted function from parameters and a batch of inputs to a tree of outputs [B, ...].
      params: its parameters.
      images: the inputs of M images, which are read batch by batch; M may be 0.
      batch_size: the number of images in a batch; rounded up to a multiple of the number of devices.
      description: the text of the progress bar.
      share: the consecutive rows whose outputs are computed; None: all.
      progress: whether the progress bar is shown.
    """
    first, last, _ = (share or slice(None)).indices(len(images))
    placed = _place(forward, params, batch_size)
    batch_size = placed.batch_size
    starts = range(first, last, batch_size)
    bar = ProgressBar(total=last - first, desc=description, unit="image", progress=progress, leave=False)

    def finish(start: int, output: Output) -> tuple[slice, Output]:
        stop = min(start + batch_size, last)
        whole = jax.device_get(output)
        bar.update(stop - start)
        return slice(start - first, stop - first), jax.tree.map(lambda leaf: leaf[: stop - start], whole)

    computing: tuple[int, Output] | None = None
    with bar:
        for start in starts:
            batch = images[start : min(start + batch_size, last)]
            padded = np.pad(batch, ((0, batch_size - len(batch)), *((0, 0),) * (batch.ndim - 1)))
            output = placed.forward(placed.params, jax.device_put(padded, placed.split))
            if computing is not None:
                yield finish(*computing)
            computing = start, output
        if computing is not None:
            yield finish(*computing)


def forward_program(params: Any, images: Rows, encoder: Encoder, *, batch_size: int) -> str | None:
    """Returns the program that ``encode`` runs on a batch, as a text that says all that it computes.

    It is traced once for both. None: no text says that, because JAX was told to pass the program's constants
    beside it (``jax_use_simplified_jaxpr_constants``).

    Args:
      params: the parameters of the encoder, of which only the shapes matter.
      images: the inputs of M images, likewise.
      encoder: the encoder.
      batch_size: the number of images in a batch.
    """
    placed = _place(make_full_forward(encoder), params, batch_size)
    batch = jax.ShapeDtypeStruct((placed.batch_size, *images.shape[1:]), images.dtype, sharding=placed.split)
    text = str(placed.forward.lower(placed.params, batch).as_text())
    return None if CONSTANT in text else text


class _Placed(NamedTuple):
    """Represents a function whose batches are divided among the devices of this process.

    Attributes:
      forward: the jitted function.
      params: its parameters, on every device.
      split: how batches are divided.
      batch_size: the number of images in a batch, a multiple of the number of devices.
    """

    forward: Any
    params: Any
    split: NamedSharding
    batch_size: int


def _place(forward: Callable[[Any, Any], Any], params: Any, batch_size: int) -> _Placed:
    mesh = Mesh(np.asarray(jax.local_devices()), (AXIS,))
    split, everywhere = NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())
    if mesh.size > 1:
        forward = _per_device(forward, mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    return _Placed(forward, jax.device_put(params, everywhere), split, batch_size)


@functools.cache  # one compilation for all calls of ``predict_batches``
def _per_device(forward: Callable[[Any, Any], Output], mesh: Mesh) -> Callable[[Any, Any], Output]:
    """Runs ``forward`` on each device's images with shard_map; XLA's partitioner may replicate the work."""
    whole, split = PartitionSpec(), PartitionSpec(AXIS)
    shared = jax.shard_map(forward, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False)
    return cast(Callable[[Any, Any], Output], jax.jit(shared, keep_unused=True))
