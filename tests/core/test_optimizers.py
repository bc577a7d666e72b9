import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.optimizers import learning_rate_schedule, make_optimizer


def rates(steps, **settings):
    schedule = learning_rate_schedule(
        1e-4, **{"decay_rate": 0.5, "decay_steps": 70, "total_steps": 175, **settings}
    )
    return [float(schedule(step)) for step in steps]


def test_the_papers_learning_rate_halves_every_ten_epochs():
    np.testing.assert_allclose(rates((0, 69, 70, 139, 140)), [1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5])


def test_cosine_falls_to_zero_at_the_last_step():
    np.testing.assert_allclose(
        rates((0, 50, 100), kind="cosine", total_steps=100), [1e-4, 5e-5, 0], atol=1e-12
    )
    assert rates((0, 170), kind="constant") == pytest.approx([1e-4, 1e-4])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.0, 5e-5, 1e-4, 1e-4]),
        ("step", [0.0, 5e-5, 1e-4, 5e-5]),  # the decay counts from the first step
        ("cosine", [0.0, 5e-5, 1e-4, 1e-4 * 0.5 * (1 + np.cos(np.pi * 60 / 165))]),
    ],
)
def test_the_learning_rate_first_rises(kind, expected):
    np.testing.assert_allclose(rates((0, 5, 10, 70), kind=kind, warmup_steps=10), expected, atol=1e-10)


def test_an_unknown_schedule_is_listed(unchecked):
    with pytest.raises(ValueError, match="step, cosine, constant, got 'linear'"):
        rates((0,), kind="linear")


def updates(gradients, params, **settings):
    optimizer = make_optimizer(optax.constant_schedule(0.1), **settings)
    return optimizer.update(gradients, optimizer.init(params), params)[0]


def test_weight_decay_shrinks_weights_and_leaves_biases():
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0), "heads": {"bias": jnp.ones((4, 2))}}
    zero = jax.tree.map(jnp.zeros_like, params)
    shrunk = updates(zero, params, weight_decay=0.5)
    np.testing.assert_allclose(shrunk["kernel"], -0.1 * 0.5 * 3.0)
    np.testing.assert_array_equal(shrunk["bias"], 0)
    np.testing.assert_array_equal(shrunk["heads"]["bias"], 0)  # one bias of several attributes
    np.testing.assert_array_equal(updates(zero, params)["kernel"], 0)


def test_frozen_parts_do_not_decay():
    params = {"encoder": {"kernel": jnp.full((2, 2), 3.0)}, "memory": jnp.full((2, 2), 3.0)}
    shrunk = updates(jax.tree.map(jnp.zeros_like, params), params, weight_decay=0.5, frozen=("encoder",))
    np.testing.assert_array_equal(shrunk["encoder"]["kernel"], 0)
    np.testing.assert_allclose(shrunk["memory"], -0.1 * 0.5 * 3.0)


def test_gradients_are_clipped_by_their_global_norm():
    """Adam's first step is scale-free; its second, after a small gradient, is not."""
    optimizer = make_optimizer(optax.constant_schedule(0.1), clip_norm=1.0)
    plain = make_optimizer(optax.constant_schedule(0.1))
    params = {"x": jnp.zeros(2)}
    small, large = {"x": jnp.array([0.3, 0.4])}, {"x": jnp.array([30.0, 40.0])}

    def second(optimizer, gradients):
        _, state = optimizer.update(small, optimizer.init(params), params)
        return optimizer.update(gradients, state, params)[0]["x"]

    clipped = second(plain, {"x": jnp.array([0.6, 0.8])})
    np.testing.assert_allclose(second(optimizer, large), clipped, rtol=1e-5)
    np.testing.assert_allclose(second(optimizer, small), second(plain, small), rtol=1e-6)
