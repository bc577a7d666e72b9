"""Times the backbone's convolutions and poolings beside plain XLA's, layer by layer, on the CPU.

    python benchmarks/layers.py

At AlexNet's full width, it times the forward pass, the images' gradient and the kernel's gradient of each
convolution, ours (by tiles if `is_worthwhile` chooses them) and XLA's own; and the forward pass and the
gradient of each pooling, ours and `flax.linen.max_pool`, the gradient also with the ReLU before the pooling
and after it. The images' gradient of conv1 is omitted, because no training needs it. Both sides are compiled
in one process, warmed up, and then take turns; the result has medians and spread.

The operations of a convolution are the multiplications and additions of the direct convolution, on both sides
and for each of the three passes. The gradient of a pooling is computed from its inputs, so it finds the
maxima again.
"""

import argparse
import functools
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.recording import are_changed, parse_flags, record
from benchmarks.search import timed
from benchmarks.side_by_side.tables import convolutions_table, poolings_table
from gradrev_jax.models import alexnet
from gradrev_jax.models.convolution import convolve, is_worthwhile, plain
from gradrev_jax.models.winograd import Geometry
from gradrev_jax.progress import ProgressBar

OURS, PLAIN = "gradrev_jax", "plain"
FULL = {"image": 224, "batch": 64, "width": 1.0}
TINY = {"image": 64, "batch": 4, "width": 0.5}  # only conv1 is computed by tiles

# Takes arrays; the last argument of a pass is the gradient of the outputs.
Function = Callable[..., jax.Array]


class Layer(NamedTuple):
    """A convolution or pooling that the backbone asks for.

    Attributes:
      name: the name of the layer: conv1, pool1, ...
      images: the shape of the input, [B, H, W, C].
      kernel: the shape of the kernel, [k, k, C, F]; None for a pooling.
      geometry: the stride and the padding; None for a pooling.
    """

    name: str
    images: tuple[int, ...]
    kernel: tuple[int, ...] | None = None
    geometry: Geometry | None = None


def backbone_layers(image: int, batch: int, width: float) -> list[Layer]:
    """Returns all layers in the order in which the model calls them, without computing anything.

    Args:
      image: the height and width of the images, in pixels.
      batch: the number of images.
      width: the width of ``AlexNet``.
    """
    layers: list[Layer] = []

    def convolution(
        images: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **settings: Any
    ) -> jax.Array:
        name = f"conv{1 + sum(layer.kernel is not None for layer in layers)}"
        layers.append(Layer(name, images.shape, kernel.shape, Geometry(strides[0], padding[0][0])))
        return convolve(images, kernel, strides, padding, **settings)

    def pooling(images: jax.Array) -> jax.Array:
        layers.append(Layer(layers[-1].name.replace("conv", "pool"), images.shape))
        return max_pool(images)

    max_pool = alexnet.max_pool
    with mock.patch.multiple(alexnet, convolve=convolution, max_pool=pooling):
        images = jax.ShapeDtypeStruct((batch, image, image, 3), jnp.float32)
        jax.eval_shape(alexnet.AlexNet(width=width).init, jax.random.key(0), images)
    return layers


def passes(layer: Layer) -> dict[str, dict[str, Function]]:
    """Returns, per pass and side, a function of the layer's inputs and the gradient of its outputs."""
    if layer.geometry is None:
        return pooling_passes()
    found = convolution_passes(layer.geometry)
    if layer.name == "conv1":
        del found["images' gradient"]
    return found


def convolution_passes(geometry: Geometry) -> dict[str, dict[str, Function]]:
    """Returns the passes of a convolution."""
    strides, padding = (geometry.stride,) * 2, [(geometry.padding,) * 2] * 2
    sides = {
        OURS: functools.partial(convolve, strides=strides, padding=padding),
        PLAIN: functools.partial(plain, geometry=geometry),
    }
    return {
        "forward": map_sides(sides, forward),
        "images' gradient": map_sides(sides, functools.partial(gradient, argument=0)),
        "kernel's gradient": map_sides(sides, functools.partial(gradient, argument=1)),
    }


def pooling_passes() -> dict[str, dict[str, Function]]:
    """Returns the passes of a pooling, alone and with a ReLU before or after it."""
    sides: dict[str, Function] = {
        OURS: alexnet.max_pool,
        PLAIN: functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2)),
    }
    inside = map_sides(sides, lambda pool: lambda images: pool(nn.relu(images)))
    after = map_sides(sides, lambda pool: lambda images: nn.relu(pool(images)))
    return {
        "forward": map_sides(sides, forward),
        "gradient": map_sides(sides, gradient),
        "gradient, ReLU inside": map_sides(inside, gradient),
        "gradient, ReLU after": map_sides(after, gradient),
    }


def map_sides(sides: Mapping[str, Function], change: Callable[[Function], Function]) -> dict[str, Function]:
    """Applies a change to both sides' functions."""
    return {side: change(function) for side, function in sides.items()}


def forward(function: Function) -> Function:
    """Returns the function from the inputs and the outputs' gradient to the outputs."""
    return lambda *arrays: function(*arrays[:-1])


def gradient(function: Function, argument: int = 0) -> Function:
    """Returns the function from the inputs and the outputs' gradient to the gradient of one input."""
    return lambda *arrays: jax.vjp(function, *arrays[:-1])[1](arrays[-1])[argument]


def measured(sides: Mapping[str, Function], arrays: Sequence[jax.Array], repeats: int) -> dict[str, Any]:
    """Times both sides by turns; returns the seconds, our speed-up, and the difference of the results."""
    works = {
        side: functools.partial(lambda work: jax.block_until_ready(work(*arrays)), jax.jit(function))
        for side, function in sides.items()
    }
    results = {side: np.asarray(work()) for side, work in works.items()}
    seconds: dict[str, list[float]] = {side: [] for side in works}
    for turn in range(1 + repeats):
        for side, work in works.items():
            taken = timed(work)[0]
            if turn:  # the first turn warms up
                seconds[side].append(taken)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    difference = np.abs(results[OURS] - results[PLAIN]).max() / np.abs(results[PLAIN]).max()
    return {
        **{
            side: {"median_seconds": medians[side], "least_seconds": min(times), "most_seconds": max(times)}
            for side, times in seconds.items()
        },
        "times_faster": medians[PLAIN] / medians[OURS],
        "largest_difference": float(difference),  # relative to the largest absolute value
    }


def measure(layer: Layer, repeats: int, advance: Callable[[], Any]) -> dict[str, Any]:
    """Measures all passes of a layer on random inputs; calls ``advance`` after each."""
    rng = np.random.default_rng(0)
    shapes = (layer.images, layer.kernel)
    inputs = [jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes if shape]
    found = passes(layer)
    output = jax.eval_shape(found["forward"][OURS], *inputs, None)
    arrays = [*inputs, jnp.asarray(rng.standard_normal(output.shape, np.float32))]
    results = {}
    for name, sides in found.items():
        results[name] = measured(sides, arrays, repeats)
        advance()
    result: dict[str, Any] = {"layer": layer.name, "images": layer.images, "passes": results}
    if layer.kernel is not None and layer.geometry is not None:
        operations = 2 * output.size * int(np.prod(layer.kernel[:3]))
        for timing in results.values():
            for side in (OURS, PLAIN):
                timing[side]["gflop_per_second"] = operations / timing[side]["median_seconds"] / 1e9
        result |= {
            "kernel": layer.kernel,
            **layer.geometry._asdict(),
            "operations": operations,
            "tiles": is_worthwhile(inputs[0], inputs[1], layer.geometry),
        }
    return result


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--image", type=int, default=FULL["image"], help="height and width, in pixels")
    parser.add_argument("--batch", type=int, default=FULL["batch"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    options = parse_flags(
        parser, arguments, is_trial=lambda options: are_changed(parser, options, ("image", "batch"))
    )
    jax.config.update("jax_platforms", "cpu")

    sizes = TINY if options.tiny else {**FULL, "image": options.image, "batch": options.batch}
    layers = backbone_layers(**sizes)
    result: dict[str, Any] = {"sizes": sizes, "repeats": options.repeats, "convolutions": [], "poolings": []}
    with ProgressBar(total=sum(len(passes(layer)) for layer in layers), unit="pass") as bar:
        for layer in layers:
            bar.set_description(layer.name)
            kind = "poolings" if layer.kernel is None else "convolutions"
            result[kind].append(measure(layer, options.repeats, bar.update))
    print(convolutions_table(result), poolings_table(result), sep="\n\n")
    record(options.out / "layers_cpu.json", result, about=options.about)
    return result


if __name__ == "__main__":
    main()
