"""What must not depend on the device, or on how it is driven."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.schemas import schema_of_sizes
from benchmarks.side_by_side.inputs import random_images, random_labels
from gradrev_jax import AttributeEncoder
from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.inputs import random_flip
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.training.encoder_step import init_state, make_train_step
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.update import make_update

pytestmark = pytest.mark.gpu

ROOT = pathlib.Path(__file__).parents[2]
CPU = jax.devices("cpu")[0]


def test_the_same_images_are_mirrored_as_on_a_cpu():
    images, key = random_images(64, 8), jax.random.key(3)
    here = jax.jit(random_flip)(key, images)
    with jax.default_device(CPU):
        there = jax.jit(random_flip)(jax.device_put(key, CPU), images)
    np.testing.assert_array_equal(here, there)
    assert not (np.asarray(here) == images).all()


def test_the_same_units_are_dropped_as_on_a_cpu():
    x, key = np.ones((16, 9216), np.float32), jax.random.key(4)

    def drop(key, x):
        return Dropout(0.5).apply({}, x, rngs={"dropout": key})

    here = jax.jit(drop)(key, x)
    with jax.default_device(CPU):
        there = jax.jit(drop)(jax.device_put(key, CPU), x)
    np.testing.assert_array_equal(here, there)
    assert 0.45 < (np.asarray(here) == 0).mean() < 0.55


def test_pmap_and_jit_do_what_a_plain_step_does(full_float32):
    schema = schema_of_sizes((3, 4))
    encoder = AttributeEncoder(schema, 8, width=1 / 16)
    # Adam would make whole steps of rounding errors, where gradients are nearly 0.
    optimizer = optax.sgd(1e-3)
    images, labels = random_images(8, 64), random_labels(8, schema.sizes).astype(np.int32)

    def start():
        return init_state(encoder, optimizer, input_size=64, seed=0)

    plain, state = make_train_step(encoder, optimizer, seed=0, total_steps=9), start()
    for _ in range(3):
        state, metrics = plain(state, images, labels)
    for mode in ("pmap", "jit"):
        parallel = Parallel(mode, (jax.devices()[0],))
        steps = parallel.compile(
            make_update(encoder, optimizer, EncoderObjective(), seed=0, total_steps=9), size=8
        )
        other, own = parallel.replicate(start()), parallel.own_rows(np.arange(8)[None])
        for _ in range(3):
            other, others = steps(other, parallel.place(images[own]), labels[None])
        np.testing.assert_allclose(others.metrics.loss, metrics.loss, rtol=1e-5)
        for found, expected in zip(jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True):
            scale = float(jnp.abs(expected).max())
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


def test_a_resumed_run_ends_in_the_same_parameters_to_the_bit(tmp_path):
    """Where XLA is told to compute the same at every run; its programs are compiled anew in between."""
    flags = "--xla_gpu_deterministic_ops=true"
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.resumed", str(tmp_path)],
        env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["steps"] == [8, 3, 8]
    assert found["leaves"] > 10
    assert found["differing"] == []
