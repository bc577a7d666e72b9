import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.conditional_dependence import conditional_dependence, expected_labels

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
LABELS = np.array(
    [[0, 1, 0], [2, -1, 0], [-1, 0, 0], [2, 1, 0], [1, 0, -1], [0, 1, 0], [-1, -1, -1], [0, 0, 0]]
)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def residual(row, j, expected, schema):
    """Z_j of one image, by loops."""
    z = np.zeros(schema.num_values)
    slot = schema.num_values + j if row[j] < 0 else schema.offsets[j] + row[j]
    for n, (start, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
        if n != j and row[n] >= 0:
            for v in range(size):
                z[start + v] = (float(v == row[n]) - expected.given[slot, start + v]) * expected.scale[j, n]
    return z


def by_loops(features, labels, expected, schema):
    total, size = 0.0, len(labels)
    for j in range(schema.num_attributes):
        f = unit(features[:, j])
        z = [residual(row, j, expected, schema) for row in labels]
        pairs = [(b, c) for b in range(size) for c in range(size) if b != c]
        distance = {(b, c): np.square(f[b] - f[c]).sum() for b, c in pairs}
        width = np.mean(list(distance.values()))
        total += np.mean(
            [
                np.exp(-distance[b, c] / width) * (1 + (labels[b][j] == labels[c][j])) * (z[b] @ z[c])
                for b, c in pairs
            ]
        )
    return total


@pytest.fixture
def features(rng):
    return rng.normal(size=(len(LABELS), 3, 4))


@pytest.fixture(scope="module")
def expected():
    return expected_labels(LABELS, SCHEMA)


def test_the_loss_against_loops(features, expected):
    loss = compiled_loss(jnp.asarray(features, jnp.float32), LABELS, expected)
    np.testing.assert_allclose(loss, by_loops(features, LABELS, expected, SCHEMA), rtol=1e-5)


def test_residuals_of_the_training_labels_have_a_mean_of_0_and_a_deviation_of_1(rng):
    """The mean for every own label, up to the smoothing by one image; the deviation over all of them."""
    size = rng.integers(0, 2, 4000)
    color = np.where(rng.random(4000) < 0.7, size, rng.integers(0, 3, 4000))
    labels = np.stack([color, size, np.zeros(4000, int)], axis=1)
    labels[rng.random(labels.shape) < 0.2] = -1
    expected = expected_labels(labels, SCHEMA)
    for j, n in ((0, 1), (1, 0)):
        rows = labels[labels[:, n] >= 0]
        z = np.stack([residual(row, j, expected, SCHEMA) for row in rows])
        block = z[:, SCHEMA.offsets[n] : SCHEMA.offsets[n] + SCHEMA.sizes[n]]
        assert np.square(block).sum(axis=1).mean() == pytest.approx(1, abs=1e-3)
        for own in range(-1, SCHEMA.sizes[j]):
            np.testing.assert_allclose(block[rows[:, j] == own].mean(axis=0), 0, atol=5e-3)


def test_labels_that_the_own_label_decides_are_not_scaled_up():
    labels = np.tile([[0, 0, 0], [1, 1, 0]], (500, 1))
    scale = expected_labels(labels, SCHEMA).scale
    assert scale[0, 1] == scale[1, 0] == scale[0, 2] == pytest.approx(10)
    assert (np.diagonal(scale) == 0).all()


def test_the_gradient_is_that_of_finite_differences(features, expected):
    """With the width of the kernel as a constant, as the loss has it."""

    def frozen(x):
        total, size = 0.0, len(LABELS)
        for j in range(3):
            f, g = unit(x[:, j]), unit(features[:, j])
            z = np.stack([residual(row, j, expected, SCHEMA) for row in LABELS])
            distance = np.square(f[:, None] - f[None]).sum(axis=-1)
            width = np.square(g[:, None] - g[None]).sum(axis=-1).sum() / (size * (size - 1))
            same = LABELS[:, None, j] == LABELS[None, :, j]
            products = np.exp(-distance / width) * (1 + same) * (z @ z.T) * (1 - np.eye(size))
            total += products.sum() / (size * (size - 1))
        return total

    gradient = jax.jit(jax.grad(lambda x: conditional_dependence(x, LABELS, expected, SCHEMA)))(
        jnp.asarray(features, jnp.float32)
    )
    numeric = np.zeros_like(features)
    for place in np.ndindex(features.shape):
        step = np.zeros_like(features)
        step[place] = 1e-5
        numeric[place] = (frozen(features + step) - frozen(features - step)) / 2e-5
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)


def correlated_catalogue(rng, count=6000):
    """Labels that depend on each other; a quarter of the sizes is missing, more often of the blue ones."""
    color = rng.integers(0, 3, count)
    size = np.where(rng.random(count) < 0.8, color % 2, rng.integers(0, 2, count))
    size = np.where(rng.random(count) < np.where(color == 0, 0.5, 0.125), -1, size)
    return np.stack([color, size], axis=1)


TWO = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


@pytest.fixture(scope="module")
def of_leaks():
    """The mean of the loss over many batches, and its standard error, by the size of a planted leak."""
    rng = np.random.default_rng(0)
    labels = correlated_catalogue(rng)
    expected = expected_labels(labels, TWO)
    directions = rng.normal(size=(2, 5, 4))
    batches = rng.integers(0, len(labels), (1500, 24))
    noise = rng.normal(size=(len(labels), 2, 4))
    loss = jax.jit(jax.vmap(lambda f, y: conditional_dependence(f, y, expected, TWO)))

    def measure(leak):
        features = 0.5 * noise
        for j, n in ((0, 1), (1, 0)):
            own = np.where(labels[:, j, None] >= 0, directions[j, labels[:, j]], 0)
            other = np.where(labels[:, n, None] >= 0, directions[n, labels[:, n]], 0)
            features[:, j] += own + leak * other
        found = np.asarray(loss(features[batches].astype(np.float32), labels[batches]))
        return found.mean(), found.std() / np.sqrt(len(found))

    return {leak: measure(leak) for leak in (0.0, 0.25, 0.5, 1.0)}


def test_features_that_tell_their_own_label_alone_have_no_loss_though_labels_are_correlated(of_leaks):
    mean, error = of_leaks[0.0]
    assert error < 0.01
    assert abs(mean) < 3 * error


def test_a_leak_costs_the_more_the_larger_it_is(of_leaks):
    means = [mean for mean, _ in of_leaks.values()]
    assert (np.diff(means) > 0).all()
    assert means[-1] > 20 * of_leaks[1.0][1]
    assert means[1] > 3 * of_leaks[0.25][1]


def test_descending_starves_the_features(rng):
    """Features that are free to move lose what they tell of the other label."""
    labels = correlated_catalogue(rng, 64)
    expected = expected_labels(labels, TWO)
    leaking = jnp.asarray(np.eye(4)[labels[:, ::-1]] + 0.1 * rng.normal(size=(64, 2, 4)), jnp.float32)
    loss = jax.jit(jax.value_and_grad(lambda f: conditional_dependence(f, labels, expected, TWO)))
    first, _ = loss(leaking)
    for _ in range(60):
        _, gradient = loss(leaking)
        leaking -= 3 * gradient
    assert first > 0.3
    assert loss(leaking)[0] < 0.1 * first


def compiled_loss(features, labels, expected, schema=SCHEMA):
    """Eagerly, each operation would be compiled alone."""
    return jax.jit(lambda f: conditional_dependence(f, labels, expected, schema))(features)


@pytest.mark.parametrize("size", [0, 1])
def test_nothing_is_compared_in_a_batch_of_one(expected, size):
    assert compiled_loss(jnp.ones((size, 3, 4)), LABELS[:size], expected) == 0


def test_images_without_labels_tell_nothing(features, expected):
    assert compiled_loss(jnp.asarray(features, jnp.float32), np.full((8, 3), -1), expected) == 0


@pytest.mark.parametrize(
    ("labels", "values"), [(LABELS[:, :1], ((*"abc",),)), (np.zeros((8, 2), int), (("x",), ("y",)))]
)
def test_one_attribute_or_attributes_of_one_value_have_nothing_to_tell(features, labels, values):
    schema = AttributeSchema(("color", "size")[: len(values)], values)
    features = jnp.asarray(features[:, : len(values)], jnp.float32)
    assert compiled_loss(features, labels, expected_labels(labels, schema), schema) == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_features_have_a_finite_gradient(expected, value):
    gradient = jax.grad(lambda f: compiled_loss(f, LABELS, expected))(jnp.full((8, 3, 4), value))
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_labels_out_of_range_are_named(expected):
    with pytest.raises(ValueError, match="label 3 of row 0 is outside .-1, 3. of attribute 'color'"):
        conditional_dependence(jnp.ones((1, 3, 4)), np.array([[3, 0, 0]]), expected, SCHEMA)
