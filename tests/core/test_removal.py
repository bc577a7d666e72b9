import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.label_counts import conditionals, count_pairs, label_slots
from gradrev_jax.core.removal import REMOVAL_TARGETS, removal_losses

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
LABELS = np.array([[0, 1], [0, 1], [0, 0], [2, 0], [2, -1], [-1, 1], [-1, 1]], np.int32)


def slices(schema):
    return [slice(start, start + size) for start, size in zip(schema.offsets, schema.sizes, strict=True)]


def slow_losses(logits, labels, prior, schema, target):
    """One sample and one pathway at a time, in float64."""
    n = schema.num_attributes
    losses = np.zeros((n, n))
    for j in range(n):
        for other, part in enumerate(slices(schema)):
            found = []
            for b, row in enumerate(labels):
                if j == other or row[other] < 0:
                    continue
                z = np.asarray(logits[b, j, part], np.float64)
                p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
                own = schema.num_values + j if row[j] < 0 else schema.offsets[j] + row[j]
                t = prior[own, part]
                if target == "prior":
                    found.append((t * np.log(t / p)).sum())
                else:
                    chance, reached = -np.log(t[row[other]]), -np.log(p[row[other]])
                    found.append(chance - min(chance, reached))
            losses[j, other] = np.mean(found) if found else 0
    return losses


@pytest.fixture
def prior():
    return conditionals(count_pairs(LABELS, SCHEMA), SCHEMA)


@pytest.fixture
def logits(rng):
    return rng.normal(size=(7, 2, 5)).astype(np.float32) * 3


@pytest.mark.long
@pytest.mark.parametrize("target", REMOVAL_TARGETS)
def test_losses_are_those_of_one_sample_at_a_time(logits, prior, target):
    losses = removal_losses(logits, LABELS, prior, SCHEMA, target=target)
    expected = slow_losses(logits, LABELS, prior, SCHEMA, target)
    assert expected[0, 1] > 0 < expected[1, 0]
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", REMOVAL_TARGETS)
def test_gradients_are_finite_differences(logits, prior, target):
    def total(logits):
        return removal_losses(logits, LABELS, prior, SCHEMA, target=target).sum()

    gradient = np.asarray(jax.grad(total)(jnp.asarray(logits)))
    expected = np.zeros(logits.shape)
    for place in np.ndindex(*logits.shape):
        step = np.zeros(logits.shape)
        step[place] = 1e-5
        above, below = (
            slow_losses(logits + sign * step, LABELS, prior, SCHEMA, target).sum() for sign in (1, -1)
        )
        expected[place] = (above - below) / 2e-5
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("target", REMOVAL_TARGETS)
def test_at_chance_there_is_neither_loss_nor_gradient(prior, target):
    at_chance = jnp.log(jnp.asarray(prior, jnp.float32))[label_slots(LABELS, SCHEMA)]
    loss, gradient = jax.value_and_grad(
        lambda logits: removal_losses(logits, LABELS, prior, SCHEMA, target=target).sum()
    )(at_chance)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    # Of the clipped form, whose gradient does not vanish on the way there, only up to rounding of the logits.
    if target == "prior":
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_clipped_has_no_gradient_from_chance_on(prior):
    """A sample whose label the adversary finds less likely than its prior does is left alone, exactly."""
    chance = jnp.log(jnp.asarray(prior, jnp.float32))[label_slots(LABELS, SCHEMA)]
    beyond = chance - 1e-3 * SCHEMA.one_hot(LABELS)[:, None]

    def total(logits):
        return removal_losses(logits, LABELS, prior, SCHEMA, target="clipped").sum()

    np.testing.assert_array_equal(jax.grad(total)(beyond), 0)
    assert total(beyond) == 0
    before = chance + 1e-3 * SCHEMA.one_hot(LABELS)[:, None]
    assert jnp.abs(jax.grad(total)(before)).max() > 0.01


def test_a_reliably_wrong_adversary_is_drawn_back_to_the_prior(prior):
    """The printed reversal would drive it further."""
    wrong = -5 * SCHEMA.one_hot(LABELS)[:, None] * jnp.ones((1, 2, 1))
    downhill = -jax.grad(lambda logits: removal_losses(logits, LABELS, prior, SCHEMA, target="prior").sum())(
        wrong
    )
    label_of_size = SCHEMA.offsets[1] + LABELS[0, 1]
    assert downhill[0, 0, label_of_size] > 0, "the right answer grows likelier"


@pytest.mark.parametrize("target", REMOVAL_TARGETS)
def test_own_pathways_and_missing_labels_count_nothing(logits, prior, target):
    labels = LABELS.copy()
    labels[:, 1] = -1

    def total(logits):
        return removal_losses(logits, labels, prior, SCHEMA, target=target)

    np.testing.assert_array_equal(total(logits)[:, 1], 0)
    assert total(logits)[1, 0] > 0, "of images that lack the own label, too"
    gradient = np.asarray(jax.grad(lambda logits: total(logits).sum())(jnp.asarray(logits)))
    np.testing.assert_array_equal(gradient[:, 0], 0)
    np.testing.assert_array_equal(gradient[labels[:, 0] < 0], 0)
    np.testing.assert_array_equal(gradient[:, 1, SCHEMA.offsets[1] :], 0)


def test_large_logits_do_not_overflow(prior):
    logits = jnp.zeros((7, 2, 5)).at[:, :, 0].set(1e4)
    for target in REMOVAL_TARGETS:
        value, gradient = jax.value_and_grad(
            lambda logits, target=target: removal_losses(logits, LABELS, prior, SCHEMA, target=target).sum()
        )(logits)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_what_does_not_fit_is_an_error(prior, logits, unchecked):
    with pytest.raises(ValueError, match="target must be one of clipped, prior, got 'none'"):
        removal_losses(logits, LABELS, prior, SCHEMA, target="none")
    with pytest.raises(ValueError, match="logits must be"):
        removal_losses(logits[:, :1], LABELS, prior, SCHEMA)
    with pytest.raises(ValueError, match="outside"):
        removal_losses(logits, LABELS + 3, prior, SCHEMA)
