import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.conditional_dependence import conditional_dependence, expected_labels
from gradrev_jax.core.decorrelation import decorrelating_weights, decorrelation
from gradrev_jax.core.losses import classification_loss, pathway_losses, reversal_loss
from gradrev_jax.core.triplet_losses import attribute_triplet_loss, semi_hard_triplet_loss
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import normalize_images
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.objective import StepContext
from gradrev_jax.training.encoder_step import init_state, make_train_step, state_shapes

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=5, backbone="small")
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 3), dtype=np.uint8)
PIXELS = COLOURS.repeat(32, axis=1).repeat(32, axis=2)  # four quarters of one colour each
LABELS = np.array([[0, 1], [1, -1], [2, 0], [0, 0], [-1, 1], [1, 1]], np.int32)


@pytest.fixture(scope="module")
def params():
    return init_state(ENCODER, optax.sgd(1.0), input_size=64, seed=0).params


def without_dropout(**fields):
    return AttributeEncoder(SCHEMA, feature_dim=5, backbone="small", dropout=0.0, **fields)


def loss_gradient(params, progress=1.0, **settings):
    def total(params):
        loss, parts = EncoderObjective(**settings).loss(
            without_dropout(),
            params,
            normalize_images(PIXELS),
            jnp.asarray(LABELS),
            StepContext(jax.random.key(0), progress),
        )
        return loss, parts.metrics

    return jax.jit(jax.grad(total, has_aux=True))(params)  # eagerly, each operation would be compiled alone


@functools.cache
def own_loss(loss, scale):
    """One loss alone and its gradient, computed without an objective."""

    def total(params):
        logits = without_dropout().apply(params, normalize_images(PIXELS), reversal_scale=scale).logits
        return loss(logits, LABELS, SCHEMA)

    return jax.jit(jax.value_and_grad(total))


@pytest.mark.long
def test_the_norms_are_those_of_each_attributes_features(params):
    _, metrics = loss_gradient(params, weighting="off")
    features = without_dropout().apply(params, normalize_images(PIXELS)).features
    expected = [
        np.mean([np.linalg.norm(image[n]) for image in np.asarray(features, float)]) for n in range(2)
    ]
    np.testing.assert_allclose(metrics.feature_norms, expected, rtol=1e-5)


def combine(w_cls, classification, w_rev, reversal):
    return jax.tree.map(lambda c, r: w_cls * c + w_rev * r, classification, reversal)


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        ({"weighting": "balanced", "beta": 0.3, "w_cls": 2.0}, lambda cls, rev: 0.3 * 2.0 * cls / rev),
        ({"weighting": "fixed", "beta": 0.3, "reversal_scale": 0.5}, lambda cls, rev: 0.3),
        ({"weighting": "schedule", "beta": 0.3, "progress": 0.1}, lambda cls, rev: 0.3 * 0.4621172),
        ({"weighting": "off"}, lambda cls, rev: 0.0),
    ],
)
def test_total_gradient_is_the_weighted_sum_of_its_parts(params, settings, weight):
    """Eq. 3 with w_rev a constant: that is what the stop-gradient of Eq. 5 means."""
    gradient, metrics = loss_gradient(params, **settings)
    scale, w_cls = settings.get("reversal_scale", 1.0), settings.get("w_cls", 1.0)
    cls, cls_gradient = own_loss(classification_loss, scale)(params)
    rev, rev_gradient = own_loss(reversal_loss, scale)(params)
    w_rev = weight(float(cls), float(rev))
    np.testing.assert_allclose(metrics.loss_cls, cls, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss_rev, rev, rtol=1e-5)
    np.testing.assert_allclose(metrics.w_rev, w_rev, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss, w_cls * cls + w_rev * rev, rtol=1e-5)
    expected = combine(w_cls, cls_gradient, w_rev, rev_gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-4), gradient, expected)


def test_off_reads_only_the_own_feature(params):
    gradient, _ = loss_gradient(params, weighting="off")
    _, expected = own_loss(classification_loss, 1.0)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, expected)


ADAM, SGD = optax.adam(1e-2), optax.sgd(0.1)


@functools.cache
def train_step(optimizer, seed=0):
    return make_train_step(ENCODER, optimizer, seed=seed, total_steps=10)


def run(steps, seed=0, state=None):
    state = state or init_state(ENCODER, ADAM, input_size=64, seed=0)
    step = train_step(ADAM, seed)
    for _ in range(steps):
        state, metrics = step(state, PIXELS, LABELS)
    return state, metrics


def test_the_shapes_of_the_first_state_are_known_before_it():
    state = init_state(ENCODER, ADAM, input_size=64, seed=0)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    assert state_shapes(ENCODER, ADAM, input_size=64) == shapes


def test_a_pure_function_of_seed_and_step():
    together, _ = run(4)
    halfway, _ = run(2)
    apart, _ = run(2, state=jax.tree.map(jnp.array, halfway))
    jax.tree.map(np.testing.assert_array_equal, together, apart)
    assert together.step == 4
    other, _ = run(4, seed=1)
    assert (together.params["params"]["heads"]["kernel"] != other.params["params"]["heads"]["kernel"]).any()


def test_the_state_is_donated():
    state = init_state(ENCODER, SGD, input_size=64, seed=0)
    train_step(SGD)(state, PIXELS, LABELS)
    assert state.params["params"]["heads"]["kernel"].is_deleted()


def test_it_learns_its_batch():
    _, first = run(1)
    _, last = run(400)
    assert last.loss_cls < 0.3 * first.loss_cls


def test_a_batch_without_labels_changes_nothing():
    state = init_state(ENCODER, SGD, input_size=64, seed=0)
    before = jax.tree.map(np.array, state.params)
    state, metrics = train_step(SGD)(state, PIXELS, np.full_like(LABELS, -1))
    assert metrics.loss == 0
    jax.tree.map(np.testing.assert_array_equal, state.params, before)


@pytest.mark.long
def test_triplet_losses_add_up(params):
    """Total and its gradient with ADDE-M's two triplet losses, beside each alone."""
    settings = {"weighting": "off", "triplet_margin": 0.7}
    none, _ = loss_gradient(params, **settings)
    one, _ = loss_gradient(params, term_weights={"attribute_triplet": 1.0}, **settings)
    other, _ = loss_gradient(params, term_weights={"label_triplet": 1.0}, **settings)
    both, metrics = loss_gradient(
        params, term_weights={"attribute_triplet": 0.2, "label_triplet": 3.0}, **settings
    )
    features = jax.jit(without_dropout().apply)(params, normalize_images(PIXELS)).features
    by_attribute = attribute_triplet_loss(features, LABELS, margin=0.7)
    whole = features.reshape(len(LABELS), -1)
    whole = whole / jnp.linalg.norm(whole, axis=1, keepdims=True)
    by_label = semi_hard_triplet_loss(whole, LABELS, margin=0.7)
    assert by_attribute > 0
    # The loss is a difference of distances: features whose sums have another order differ by 6e-5 of it.
    np.testing.assert_allclose(metrics.terms["attribute_triplet"], by_attribute, rtol=2e-4)
    np.testing.assert_allclose(metrics.terms["label_triplet"], by_label, rtol=2e-4)
    np.testing.assert_allclose(
        metrics.loss, metrics.loss_cls + 0.2 * by_attribute + 3.0 * by_label, rtol=2e-4
    )
    expected = jax.tree.map(lambda n, a, b: n + 0.2 * (a - n) + 3.0 * (b - n), none, one, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-3), both, expected)


UNIT = without_dropout(unit_features=True)


def objective_of(**settings):
    """The loss and metrics of an objective on the batch, with unit features."""
    params = init_state(UNIT, optax.sgd(1.0), input_size=64, seed=0).params

    def total(params):
        objective = EncoderObjective(weighting="off", **settings)
        images = normalize_images(PIXELS)
        loss, parts = objective.loss(
            UNIT, params, images, jnp.asarray(LABELS), StepContext(jax.random.key(0))
        )
        return loss, parts.metrics

    output = jax.jit(UNIT.apply)(params, normalize_images(PIXELS))
    return *jax.jit(total)(params), output


@pytest.mark.long
def test_terms_without_an_adversary_add_up():
    expected = expected_labels(LABELS, SCHEMA)
    weights = {"compactness": 2.0, "conditional_dependence": 3.0}
    total, metrics, output = objective_of(term_weights=weights, expected=expected)
    logits = np.asarray(output.logits)
    squares = [
        np.mean(
            [2 - logits[b, n, SCHEMA.offsets[n] + row[n]] / 10 for b, row in enumerate(LABELS) if row[n] >= 0]
        )
        for n in range(2)
    ]
    np.testing.assert_allclose(metrics.terms["compactness"], sum(squares), rtol=1e-5)
    dependence = conditional_dependence(output.features, LABELS, expected, SCHEMA)
    np.testing.assert_allclose(metrics.terms["conditional_dependence"], dependence, rtol=1e-4)
    np.testing.assert_allclose(total, metrics.loss_cls + 2 * sum(squares) + 3 * dependence, rtol=1e-4)


@pytest.mark.long
def test_decorrelating_weights_are_those_of_the_classifiers():
    training = np.repeat([[0, 0], [0, 1], [1, 1], [2, 0]], [90, 10, 60, 40], axis=0)
    tables = decorrelation(training, SCHEMA)
    _, metrics, output = objective_of(decorrelation=tables)
    weights = decorrelating_weights(LABELS, tables, SCHEMA)
    expected = pathway_losses(output.logits, LABELS, SCHEMA, weights)
    np.testing.assert_allclose(metrics.pathways, expected, rtol=1e-5)
    assert np.abs(expected - pathway_losses(output.logits, LABELS, SCHEMA)).max() > 1e-3


def test_terms_that_lack_what_they_need(params):
    with pytest.raises(ValueError, match="conditional_dependence needs what the training labels tell"):
        objective_of(term_weights={"conditional_dependence": 1.0})
    with pytest.raises(ValueError, match="compactness needs cosines: set unit_features of the encoder"):
        loss_gradient(params, term_weights={"compactness": 1.0})


@pytest.mark.long
def test_where_nothing_is_mirrored_or_dropped_the_seed_changes_nothing():
    optimizer = optax.sgd(1.0)

    def after_a_step(seed, mirror):
        step = make_train_step(without_dropout(), optimizer, seed=seed, total_steps=10, mirror=mirror)
        start = init_state(without_dropout(), optimizer, input_size=64, seed=0)
        return jax.tree.leaves(step(start, PIXELS, LABELS)[0].params)

    def equal(one, other):
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    assert equal(after_a_step(0, mirror=False), after_a_step(1, mirror=False))
    assert not equal(after_a_step(0, mirror=True), after_a_step(1, mirror=True))
