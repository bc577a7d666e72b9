import jax
import numpy as np
import pytest

from gradrev_jax.core import decorrelation as module
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.decorrelation import EXPONENTS, decorrelating_weights, decorrelation

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
TWO = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


def weights_of(labels, tables, schema):
    """Compiled, because eagerly each operation would be compiled alone."""
    return np.asarray(jax.jit(lambda labels: decorrelating_weights(labels, tables, schema))(labels))


def log_probability(row, j, labels, schema, exponent):
    """log P(y_j | y_-j) of a training image: naive Bayes by loops; for its own label, without the image."""

    def prior(n, v):
        return ((labels[:, n] == v).sum() + 1 / schema.sizes[n]) / ((labels[:, n] >= 0).sum() + 1)

    scores = []
    for v in range(schema.sizes[j]):
        score, itself = np.log(prior(j, v)), int(v == row[j])
        for n, other in enumerate(row):
            if n != j and other >= 0:
                of_value = labels[labels[:, j] == v]
                both = max((of_value[:, n] == other).sum() - itself, 0)
                number = max((of_value[:, n] >= 0).sum() - itself, 0)
                given = (both + prior(n, other)) / (number + 1)
                score += exponent * np.log(given / prior(n, other))
        scores.append(score)
    return scores[row[j]] - np.log(np.exp(scores).sum()), np.log(prior(j, row[j]))


def by_loops(labels, schema, largest):
    weights = np.zeros(labels.shape)
    for j in range(schema.num_attributes):
        rows = np.flatnonzero(labels[:, j] >= 0)
        tried = [
            sum(log_probability(labels[row], j, labels, schema, a)[0] for row in rows) for a in EXPONENTS
        ]
        for row in rows:
            found, prior = log_probability(labels[row], j, labels, schema, EXPONENTS[np.argmax(tried)])
            weights[row, j] = np.clip(np.exp(prior - found), 1 / largest, largest)
        weights[rows, j] /= weights[rows, j].mean() if len(rows) else 1
    return weights


@pytest.fixture
def labels(rng):
    """Three attributes, two of which depend on each other, with missing labels."""
    size = rng.integers(0, 2, 60)
    color = np.where(rng.random(60) < 0.7, size, rng.integers(0, 3, 60))
    labels = np.stack([color, size, np.zeros(60, int)], axis=1)
    labels[rng.random(labels.shape) < 0.2] = -1
    return labels


@pytest.mark.parametrize("largest", [5.0, 1.5])
def test_weights_against_loops(labels, largest):
    tables = decorrelation(labels, SCHEMA, largest=largest)
    expected = by_loops(labels, SCHEMA, largest)
    np.testing.assert_allclose(weights_of(labels, tables, SCHEMA), expected, rtol=1e-4)


def test_weights_have_a_mean_of_1_and_none_where_nothing_is_labelled(labels):
    weights = weights_of(labels, decorrelation(labels, SCHEMA), SCHEMA)
    assert (weights[labels < 0] == 0).all()
    for n in range(3):
        assert weights[labels[:, n] >= 0, n].mean() == pytest.approx(1, rel=1e-5)
    assert weights[labels[:, 0] >= 0, 0].std() > 0.1


def frequencies(labels, weights, schema):
    table = np.zeros(schema.sizes)
    np.add.at(table, tuple(labels.T), weights)
    return table / table.sum()


def test_weighted_labels_are_independent(rng):
    """Of two attributes naive Bayes is exact, so the weighted frequencies are products of the marginals."""
    size = rng.integers(0, 2, 5000)
    color = np.where(rng.random(5000) < 0.5, size, rng.integers(0, 3, 5000))
    labels = np.stack([color, size], axis=1)
    weights = weights_of(labels, decorrelation(labels, TWO, largest=50.0), TWO)
    plain = frequencies(labels, np.ones(5000), TWO)
    independent = plain.sum(axis=1, keepdims=True) * plain.sum(axis=0)
    assert np.abs(plain - independent).max() > 0.05
    for n in range(2):
        np.testing.assert_allclose(frequencies(labels, weights[:, n], TWO), independent, atol=2e-3)


def test_attributes_that_say_the_same_are_not_counted_twice(rng):
    """A copy of an attribute, with a tenth changed, leaves the weights about as they were."""
    size = rng.integers(0, 2, 4000)
    color = np.where(rng.random(4000) < 0.6, size, 1 - size)
    schema = AttributeSchema(("color", "size", "fit"), (("blue", "red"), ("s", "m"), ("a", "b")))
    pair = AttributeSchema(schema.names[:2], schema.values[:2])
    alone = np.stack([color, size], axis=1)
    both = np.stack([color, size, np.where(rng.random(4000) < 0.02, 1 - size, size)], axis=1)
    before = weights_of(alone, decorrelation(alone, pair), pair)[:, 0]
    after = weights_of(both, decorrelation(both, schema), schema)[:, 0]
    assert np.abs(after - before).mean() < 0.02


def test_labels_that_are_independent_weigh_about_the_same(rng):
    labels = np.stack([rng.integers(0, size, 3000) for size in SCHEMA.sizes], axis=1)
    weights = weights_of(labels, decorrelation(labels, SCHEMA), SCHEMA)
    np.testing.assert_allclose(weights, 1, atol=0.05)


def test_a_rare_label_is_not_taken_for_certain():
    """The only red one: what it looks like among the others must not make it likely."""
    labels = np.concatenate([np.tile([[0, 0], [1, 1]], (200, 1)), [[2, 1]]])
    weights = weights_of(labels, decorrelation(labels, TWO), TWO)
    assert weights[-1, 0] > 1.5


def test_what_has_nothing_to_weigh():
    alone = AttributeSchema(("color",), (("blue", "red"),))
    labels = np.array([[0], [1], [-1], [1]])
    weights = weights_of(labels, decorrelation(labels, alone), alone)
    assert weights.tolist() == [[1], [1], [0], [1]]
    assert weights_of(labels[:0], decorrelation(labels, alone), alone).shape == (0, 1)
    none = np.full((3, 3), -1)
    for training in (none, none[:0]):
        assert (weights_of(none, decorrelation(training, SCHEMA), SCHEMA) == 0).all()


def test_what_cannot_be_weighted(labels):
    with pytest.raises(ValueError, match="largest must be at least 1, got 0.5"):
        decorrelation(labels, SCHEMA, largest=0.5)
    with pytest.raises(ValueError, match="label 3 of row 0 is outside .-1, 3. of attribute 'color'"):
        decorrelation(np.array([[3, 0, 0]]), SCHEMA)


def test_rows_are_taken_a_part_at_a_time(labels, monkeypatch):
    whole = decorrelation(labels, SCHEMA)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    parts = decorrelation(labels, SCHEMA)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def explained(labels, weights, schema, n, m):
    """The fraction of the uncertainty about attribute m that attribute n takes away, under weights."""
    pair = labels[:, [n, m]]
    table = frequencies(pair, weights, AttributeSchema(("n", "m"), (schema.values[n], schema.values[m])))
    rows, columns = table.sum(axis=1, keepdims=True), table.sum(axis=0)
    information = np.sum(
        table * np.log(np.where(table > 0, table, 1) / np.where(table > 0, rows * columns, 1))
    )
    return information / -np.sum(columns * np.log(columns))


def test_labels_that_mostly_follow_from_one_come_apart(rng):
    """Of half the images every label follows from the first, so no two attributes are a pair on their own."""
    schema = AttributeSchema(tuple("abcd"), tuple(tuple(map(str, range(size))) for size in (4, 5, 3, 3)))
    free = np.stack([rng.integers(0, size, 4000) for size in schema.sizes], axis=1)
    labels = np.where(rng.random((4000, 1)) < 0.5, free[:, :1] % np.asarray(schema.sizes), free)
    weights = weights_of(labels, decorrelation(labels, schema), schema)
    pairs = [(n, m) for n in range(4) for m in range(4) if n != m]
    plain = np.mean([explained(labels, np.ones(4000), schema, *pair) for pair in pairs])
    weighted = np.mean([explained(labels, weights[:, n], schema, n, m) for n, m in pairs])
    assert plain > 0.1
    assert weighted < 0.1 * plain
