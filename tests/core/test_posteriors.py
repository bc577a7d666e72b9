import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.posteriors import fit_temperatures, one_hot_memory, posterior_blocks, prior_blocks

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red", "tan"), ("s", "m"), ("x",)))


def slow_blocks(own_logits, schema, temperatures):
    blocks = np.zeros((len(own_logits), schema.num_attributes, max(schema.sizes)))
    for i, row in enumerate(np.asarray(own_logits, np.float64)):
        for n, (offset, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
            blocks[i, n, :size] = np.sqrt(softmax(row[offset : offset + size] / temperatures[n]))
    return blocks


def slow_cross_entropy(logits, labels, temperature):
    losses = [-np.log(softmax(z / temperature)[y]) for z, y in zip(logits, labels, strict=True) if y >= 0]
    return np.mean(losses)


def calibrated(rng, size, count):
    """Logits and labels that are drawn from their softmax."""
    logits = 2 * rng.normal(size=(count, size))
    return logits, (rng.random(count)[:, None] > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)


def test_blocks_against_loops(rng):
    logits = rng.normal(scale=3, size=(20, 7)).astype(np.float32)
    temperatures = np.array([0.5, 3.0, 1.0])
    expected = slow_blocks(logits, SCHEMA, temperatures)
    np.testing.assert_allclose(posterior_blocks(logits, SCHEMA, temperatures), expected, atol=1e-6)
    jitted = jax.jit(posterior_blocks, static_argnums=1)
    np.testing.assert_allclose(jitted(logits, SCHEMA, temperatures), expected, atol=1e-6)
    plain = slow_blocks(logits, SCHEMA, np.ones(3))
    np.testing.assert_allclose(posterior_blocks(logits, SCHEMA), plain, atol=1e-6)
    grid = posterior_blocks(logits.reshape(4, 5, 7), SCHEMA, temperatures)
    np.testing.assert_allclose(grid.reshape(20, 3, 4), expected, atol=1e-6)
    assert posterior_blocks(logits[:0], SCHEMA).shape == (0, 3, 4)


def test_every_block_has_length_1_whatever_the_logits(rng):
    logits = rng.normal(size=(6, 7)).astype(np.float32)
    logits[0] *= 1e38
    logits[1] = -3e38
    logits[2, :2] = -np.inf
    for temperature in (0.05, 1.0, 20.0):
        blocks = np.asarray(posterior_blocks(logits, SCHEMA, np.full(3, temperature)))
        np.testing.assert_allclose(np.linalg.norm(blocks, axis=-1), 1, atol=1e-6)
        assert (blocks[:, 1, 2:] == 0).all()
        assert (blocks[:, 2, 1:] == 0).all()
        assert (blocks[2, 0, :2] == 0).all()


def test_a_squared_distance_is_twice_the_squared_hellinger_distance(rng):
    logits = rng.normal(size=(2, 7))
    p, q = (softmax(row[:4]) for row in logits)
    hellinger = np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2)
    blocks = np.asarray(posterior_blocks(logits, SCHEMA))
    assert ((blocks[0, 0] - blocks[1, 0]) ** 2).sum() == pytest.approx(2 * hellinger**2, abs=1e-6)


def test_gradients_of_blocks_are_finite_and_those_of_differences(rng):
    logits = rng.normal(size=7).astype(np.float32)
    weights = rng.normal(size=(3, 4)).astype(np.float32)
    temperatures = np.array([0.7, 2.0, 1.0])
    gradient = jax.grad(lambda z: (posterior_blocks(z, SCHEMA, temperatures) * weights).sum())(
        jnp.array(logits)
    )
    for v in range(7):
        step = 1e-5 * np.eye(7)[v]
        up, down = (slow_blocks([logits + sign * step], SCHEMA, temperatures)[0] for sign in (1, -1))
        assert gradient[v] == pytest.approx(((up - down) * weights).sum() / 2e-5, abs=1e-4)
    far = jnp.array([0.0, -1e4, 1e4, 3.0, 0.0, 500.0, 7.0])
    assert jnp.isfinite(jax.grad(lambda z: (posterior_blocks(z, SCHEMA) * weights).sum())(far)).all()


@pytest.mark.parametrize("impossible", [False, True])
def test_gradients_of_temperatures_are_those_of_differences(rng, impossible):
    """Of attributes with fewer values than the largest, too, and where a value has no probability."""
    logits = rng.normal(size=(5, 7)).astype(np.float32)
    if impossible:
        logits[1, :2] = -np.inf
    weights = rng.normal(size=(5, 3, 4)).astype(np.float32)
    temperatures = np.array([0.7, 2.0, 1.0])
    gradient = jax.grad(lambda t: (posterior_blocks(logits, SCHEMA, t) * weights).sum())(
        jnp.asarray(temperatures, jnp.float32)
    )
    for n in range(3):
        step = 1e-5 * np.eye(3)[n]
        up, down = (slow_blocks(logits, SCHEMA, temperatures + sign * step) for sign in (1, -1))
        assert gradient[n] == pytest.approx(((up - down) * weights).sum() / 2e-5, abs=1e-4)


def test_bad_temperatures_and_logits_are_named(unchecked):
    logits = np.zeros((2, 7), np.float32)
    with pytest.raises(ValueError, match=r"above 0, got 0 for 'size'"):
        posterior_blocks(logits, SCHEMA, np.array([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"above 0, got nan for 'only'"):
        posterior_blocks(logits, SCHEMA, np.array([1.0, 1.0, np.nan]))
    with pytest.raises(ValueError, match=r"temperatures must be \[3\], got \(2,\)"):
        posterior_blocks(logits, SCHEMA, np.ones(2))
    with pytest.raises(ValueError, match=r"own_logits need 7 columns \(values\), got \(2, 6\)"):
        posterior_blocks(logits[:, :6], SCHEMA)


def test_sure_logits_give_the_memory_and_a_swap_goes_from_one_to_the_other():
    memory = one_hot_memory(SCHEMA)
    labels = np.array([[3, 0, 0], [1, 1, 0]], np.int32)
    blocks = posterior_blocks(1e4 * SCHEMA.one_hot(labels), SCHEMA)
    np.testing.assert_array_equal(blocks, np.einsum("mv,vnk->mnk", SCHEMA.one_hot(labels), memory))
    swap = np.asarray(SCHEMA.one_hot(labels[1]) - SCHEMA.one_hot(labels[0]))
    np.testing.assert_array_equal(manipulate(blocks[0], swap, memory), blocks[1])


def test_priors_are_shares_of_labelled_images(rng):
    labels = np.stack([rng.integers(-1, size, 50) for size in SCHEMA.sizes], axis=1)
    labels[:, 1] = -1
    priors = prior_blocks(labels, SCHEMA)
    for n, size in enumerate(SCHEMA.sizes):
        known = [row[n] for row in labels if row[n] >= 0]
        for v in range(max(SCHEMA.sizes)):
            share = (known.count(v) / len(known) if known else 1 / size) if v < size else 0
            assert priors[n, v] == pytest.approx(share**0.5, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(prior_blocks(labels[:0], SCHEMA), axis=1), 1, atol=1e-6)


def test_temperatures_against_scipy_with_missing_labels(rng):
    labels = np.stack([rng.integers(-1, size, 300) for size in SCHEMA.sizes], axis=1)
    logits = rng.normal(size=(300, 7)) + 1.5 * np.asarray(SCHEMA.one_hot(labels))
    found = fit_temperatures(logits, labels, SCHEMA)
    for n in (0, 1):
        part = slice(SCHEMA.offsets[n], SCHEMA.offsets[n] + SCHEMA.sizes[n])
        best = minimize_scalar(
            lambda log_t, part=part, n=n: slow_cross_entropy(logits[:, part], labels[:, n], np.exp(log_t)),
            bounds=np.log([0.05, 20]),
            method="bounded",
            options={"xatol": 1e-8},
        )
        assert found[n] == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found[2] == 1


def test_a_known_temperature_is_found_again(rng):
    schema = AttributeSchema(("a", "b", "c"), (tuple("stuvw"), ("x", "y"), ("p", "q", "r")))
    true = np.array([0.2, 3.0, 1.0])
    parts = [calibrated(rng, size, 20_000) for size in schema.sizes]
    logits = np.concatenate([part * t for (part, _), t in zip(parts, true, strict=True)], axis=1)
    labels = np.stack([labels for _, labels in parts], axis=1)
    np.testing.assert_allclose(fit_temperatures(logits, labels, schema), true, rtol=0.05)
    np.testing.assert_allclose(fit_temperatures(logits.astype(np.float32), labels, schema), true, rtol=0.05)


def test_temperatures_stay_within_bounds_and_are_1_where_nothing_can_be_fitted(rng):
    schema = AttributeSchema(("a", "b", "c", "d", "e"), (("x", "y"),) * 5)
    labels = np.stack([np.arange(40) % 2] * 5, axis=1)
    right = np.asarray(schema.one_hot(labels), np.float64)
    logits = right.copy()  # a: always right
    logits[:, 2:4] = -right[:, 2:4]  # b: always wrong
    logits[:, 4:6] = 7.3  # c: undecided
    labels[:, 3], labels[:, 4] = -1, 1  # d: no label; e: one value only
    assert fit_temperatures(logits, labels, schema).tolist() == [0.05, 20, 1, 1, 1]
    assert fit_temperatures(logits[:0], labels[:0], schema).tolist() == [1] * 5


def test_bad_input_of_temperatures_is_named(unchecked, rng):
    logits, labels = rng.normal(size=(4, 7)), np.zeros((4, 3), np.int32)
    with pytest.raises(ValueError, match=r"own_logits must be \[M, J\] and labels \[M, N\]; got \(3, 7\)"):
        fit_temperatures(logits[:3], labels, SCHEMA)
    with pytest.raises(ValueError, match="label 2 of row 1"):
        fit_temperatures(logits, labels + np.array([[0], [2], [0], [0]]), SCHEMA)
    logits[1, 5] = np.nan
    with pytest.raises(ValueError, match="own_logits of attribute 'size' are not all finite"):
        fit_temperatures(logits, labels, SCHEMA)
    labels[1, 1] = -1
    assert np.isfinite(fit_temperatures(logits, labels, SCHEMA)).all()
