"""Convolutions by tiles on one device and on four, in a process of its own: how far the results are apart.

In float32, without which there are no tiles. After one step Adam's means are the gradients, by a factor; they
are compared, and not the parameters, because Adam turns rounding errors of gradients that are nearly 0 into
whole steps.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradrev_jax.models import convolution
from gradrev_jax.models.forward import predict_batches
from gradrev_jax.models.interface import EncoderOutput
from gradrev_jax.models.shards import whole_batch
from gradrev_jax.systems.objective import LossParts
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.update import TrainState, descend

BATCH = 15  # one less than four devices share equally, so that there is padding
OPTIMIZER = optax.adam(1e-3)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (BATCH, 64, 64, 3), dtype=np.uint8)
TARGETS = RNG.normal(size=(BATCH, 32)).astype(np.float32)
# A layer of conv1's kind, and one whose images' gradient is by tiles too: 64 tiles an image, 256 a device.
KERNELS = {
    name: RNG.normal(size=shape).astype(np.float32) / 20
    for name, shape in (("conv1", (11, 11, 3, 32)), ("conv2", (3, 3, 32, 32)))
}


def update(state, images, targets, shard=None):
    """A step whose loss is nowhere linear in what the convolutions give."""
    inputs = images.astype(jnp.float32) / 255

    def loss(kernels):
        hidden = jnp.tanh(convolution.convolve(inputs, kernels["conv1"], (4, 4), [(2, 2)] * 2))
        outputs = jnp.sin(convolution.convolve(hidden, kernels["conv2"], (1, 1), [(1, 1)] * 2))
        together = whole_batch(outputs, shard)
        return jnp.square(together.mean((1, 2)) - targets).sum(), LossParts(together, kernels)

    state, parts = descend(state, loss, OPTIMIZER, shard)
    return state, parts.metrics


def one_step(parallel):
    """What a step gives, and the convolutions that it asked for: (images, whether by tiles)."""
    asked, is_worthwhile = [], convolution.is_worthwhile

    def listening(images, kernel, geometry):
        answer = is_worthwhile(images, kernel, geometry)
        asked.append((len(images), answer))
        return answer

    convolution.is_worthwhile = listening
    state = parallel.replicate(TrainState.begin(KERNELS, OPTIMIZER))
    rows = parallel.own_rows(np.arange(BATCH)[None])
    steps = parallel.compile(update, size=BATCH)
    state, taken = steps(state, parallel.place(PIXELS[rows]), TARGETS[None])
    convolution.is_worthwhile = is_worthwhile
    return jax.device_get({"outputs": taken.metrics, **state.opt_state[0].mu}), asked


def outputs_of_eleven():
    """How far outputs of images that four devices share, eight at a time, are from those of one device."""
    asked = []

    def forward(kernels, images):
        asked.append(len(images))
        inputs = images.astype(jnp.float32) / 255
        outputs = convolution.convolve(inputs, kernels["conv1"], (4, 4), [(2, 2)] * 2)
        return EncoderOutput(outputs, outputs)

    alone = jax.jit(forward)(KERNELS, PIXELS[:11])
    batches = predict_batches(forward, KERNELS, PIXELS[:11], batch_size=6, description="", progress=False)
    rows, outputs = zip(*batches, strict=True)
    apart = np.abs(np.concatenate([output.features for output in outputs]) - alone.features).max()
    return {"asked": asked, "rows": [[part.start, part.stop] for part in rows], "apart": float(apart)}


def main():
    """Print a line of JSON for each mode, and one for outputs."""
    alone, _ = one_step(Parallel.over(1, batch=BATCH))
    for mode in ("pmap", "jit"):
        parallel = Parallel.over(batch=BATCH, mode=mode)
        together, asked = one_step(parallel)
        apart = {
            name: float(np.abs(value - together[name]).max() / np.abs(value).max())
            for name, value in alone.items()
        }
        line = {"apart": apart, "asked": asked, "devices": len(parallel.devices), "mode": parallel.mode}
        print(json.dumps(line), flush=True)
    print(json.dumps(outputs_of_eleven()), flush=True)


if __name__ == "__main__":
    main()
