import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.systems.objective import LossParts
from gradrev_jax.training.update import TrainState, descend

WIDTH = 24
OPTIMIZER = optax.adam(1e-2)


def weights():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) for name in ("first", "second")}


def step(state, x):
    """Two layers: the first layer's gradient needs the second's weight."""

    def loss(params):
        hidden = jnp.tanh(x @ params["first"])
        total = jnp.square(hidden @ params["second"]).sum()
        return total, LossParts(total, params)

    state, parts = descend(state, loss, OPTIMIZER, None)
    return state, parts.metrics


def inputs():
    return np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)


def test_new_parameters_are_written_over_the_old_ones():
    state = TrainState.begin(weights(), OPTIMIZER)
    text = jax.jit(step, donate_argnums=0).lower(state, inputs()).compile().as_text()
    assert not re.findall(rf"f32\[{WIDTH},{WIDTH}\]\S* copy\(", text)


@pytest.mark.parametrize("jitted", [False, True])
def test_a_step_is_adams(jitted):
    state, _ = (jax.jit(step) if jitted else step)(TrainState.begin(weights(), OPTIMIZER), inputs())
    x, params = (
        inputs().astype(np.float64),
        {name: value.astype(np.float64) for name, value in weights().items()},
    )
    hidden = np.tanh(x @ params["first"])
    outputs = 2 * hidden @ params["second"]
    gradients = {
        "first": x.T @ ((outputs @ params["second"].T) * (1 - hidden**2)),
        "second": hidden.T @ outputs,
    }
    for name, gradient in gradients.items():
        np.testing.assert_allclose(state.opt_state[0].mu[name], 0.1 * gradient, rtol=1e-4, atol=1e-5)
        expected = params[name] - 1e-2 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(state.params[name], expected, rtol=1e-4, atol=1e-5)
