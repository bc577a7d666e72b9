import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.discriminant import fit_discriminants
from gradrev_jax.core.erasure import Erasure, fit_conditional_erasure
from gradrev_jax.core.fitted_memory import fit_memory
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.core.missing_labels import MISSING
from gradrev_jax.core.representations import REPRESENTATIONS, erased_space, make_space
from tests.encoded_images import DIM, SCHEMA, WIDTH, material

ONE = AttributeSchema(("color",), (("blue", "green", "red"),))
ONE_VALUE = AttributeSchema(("color", "only"), (("blue", "green", "red"), ("x",)))
SCHEMAS = {"two": SCHEMA, "one attribute": ONE, "one value": ONE_VALUE}
FITTED = [name for name, each in REPRESENTATIONS.items() if each.needs_training]


def slow_blocks(these, schema, missing, temperatures):
    """Square roots of each attribute's probabilities, by image, attribute and class."""
    extra = 1 if missing == "value" else 0
    blocks = np.zeros((len(these.labels), schema.num_attributes, max(schema.sizes) + extra))
    for image, row in enumerate(np.asarray(these.own_logits, np.float64)):
        start = 0
        for n, size in enumerate(schema.sizes):
            stop = start + size + extra
            probabilities = softmax(row[start:stop] / temperatures[n])
            for position, probability in enumerate(probabilities):
                blocks[image, n, position] = probability**0.5
            start = stop
    return blocks


def slow_temperature(these, schema, missing, n):
    """The temperature under which the labels of attribute n are likeliest."""
    extra = 1 if missing == "value" else 0
    start = sum(schema.sizes[:n]) + extra * n
    size = schema.sizes[n] + extra
    pairs = []
    for row, labels in zip(np.asarray(these.own_logits, np.float64), these.labels, strict=True):
        if labels[n] >= 0 or missing == "value":
            pairs.append((row[start : start + size], labels[n] if labels[n] >= 0 else size - 1))
    if len({label for _, label in pairs}) < 2:
        return 1.0

    def loss(log_temperature):
        return -sum(np.log(softmax(z / np.exp(log_temperature))[label]) for z, label in pairs)

    options = {"xatol": 1e-9}
    return np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded", options=options).x)


@pytest.mark.long
@pytest.mark.parametrize("held_out", [30, 0])
@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_posteriors_against_loops(rng, schema, missing, held_out):
    made = material(rng, schema, missing, held_out=held_out)
    space = make_space("posterior", made)
    n, extra = schema.num_attributes, 1 if missing == "value" else 0
    temperatures = [slow_temperature(made.held_out, schema, missing, each) for each in range(n)]
    assert held_out == 0 or temperatures[0] != pytest.approx(1, abs=0.05)
    for found, these in ((space.gallery, made.gallery), (space.held_out, made.held_out)):
        np.testing.assert_allclose(found, slow_blocks(these, schema, missing, temperatures), atol=2e-5)
    width = max(schema.sizes) + extra
    assert space.memory.shape == (schema.num_values, n, width)
    assert space.absent.shape == (n, width)
    for value in range(schema.num_values):
        j = schema.attribute_of[value]
        for block in range(n):
            for position in range(width):
                is_it = block == j and position == value - schema.offsets[j]
                assert space.memory[value, block, position] == is_it
    for j, size in enumerate(schema.sizes):
        if missing == "value":
            expected = [float(position == size) for position in range(width)]
        else:
            known = [row[j] for row in made.train_labels if row[j] >= 0]
            expected = [(known.count(position) / len(known)) ** 0.5 for position in range(width)]
        np.testing.assert_allclose(space.absent[j], expected, atol=1e-6)


def test_a_missing_label_that_counts_is_as_far_from_every_value_as_they_are_from_each_other(rng):
    space = make_space("posterior", material(rng, missing="value"))
    rows = np.concatenate([space.memory[:3, 0], space.absent[:1]])
    distances = np.linalg.norm(rows[:, None] - rows, axis=-1)
    np.testing.assert_allclose(distances, np.sqrt(2) * (1 - np.eye(4)))


@pytest.mark.long
@pytest.mark.parametrize("held_out", [30, 0])
@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_hybrid_against_loops(rng, schema, missing, held_out):
    made = material(rng, schema, missing, held_out=held_out, look=0.3)
    space, posteriors = make_space("hybrid", made), make_space("posterior", made)
    n, width = schema.num_attributes, posteriors.memory.shape[2]
    rest = -(-WIDTH // width)
    assert rest * width > WIDTH, "the last block is padded"
    assert space.memory.shape == (schema.num_values, n + rest, width)
    np.testing.assert_array_equal(space.memory[:, :n], posteriors.memory)
    assert not np.asarray(space.memory)[:, n:].any()
    np.testing.assert_array_equal(space.absent, posteriors.absent)
    of_mean = np.asarray((made.held_out if held_out else made.gallery).embeddings, np.float64)
    mean = [sum(column) / len(of_mean) for column in of_mean.T]
    for found, blocks, these in (
        (space.gallery, posteriors.gallery, made.gallery),
        (space.held_out, posteriors.held_out, made.held_out),
    ):
        assert found.shape == (len(these.labels), n + rest, width)
        np.testing.assert_array_equal(found[:, :n], blocks)
        for image, output in enumerate(np.asarray(these.embeddings, np.float64)):
            centred = [number - middle for number, middle in zip(output, mean, strict=True)]
            length = sum(number**2 for number in centred) ** 0.5
            expected = [0.3 * number / length for number in centred] + [0.0] * (rest * width - WIDTH)
            np.testing.assert_allclose(np.ravel(found[image, n:]), expected, atol=1e-6)


def test_a_look_of_0_leaves_every_distance_of_the_posteriors(rng):
    made = material(rng, look=0.0)
    for part in ("gallery", "held_out"):
        distances = []
        for space in (make_space("hybrid", made), make_space("posterior", made)):
            rows = np.asarray(getattr(space, part), np.float64).reshape(len(getattr(space, part)), -1)
            prototypes = np.asarray(space.memory, np.float64).reshape(len(space.memory), -1)
            rows = np.concatenate([rows, prototypes])
            distances.append(np.linalg.norm(rows[:, None] - rows, axis=-1))
        np.testing.assert_array_equal(*distances)


def test_an_image_that_looks_as_the_mean_adds_nothing_to_what_labels_say(rng):
    made = material(rng)
    same = np.broadcast_to(made.held_out.embeddings.mean(axis=0), (12, WIDTH))
    space = make_space("hybrid", made._replace(gallery=made.gallery._replace(embeddings=same)))
    assert np.abs(space.gallery[:, 2:]).max() <= 0.5 + 1e-6
    assert np.isfinite(space.gallery).all()
    zeros = made._replace(
        gallery=made.gallery._replace(embeddings=np.zeros((12, WIDTH), np.float32)),
        held_out=made.held_out._replace(embeddings=np.zeros((30, WIDTH), np.float32)),
    )
    assert not np.asarray(make_space("hybrid", zeros).gallery[:, 2:]).any()


def slow_means(memory, schema):
    """The mean of each attribute's prototypes in its own block."""
    rows = []
    for n in range(schema.num_attributes):
        own = [memory[value, n] for value in range(schema.num_values) if schema.attribute_of[value] == n]
        rows.append(sum(np.asarray(row, np.float64) for row in own) / len(own))
    return np.stack(rows)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_features_are_as_they_are(rng, schema):
    made = material(rng, schema)
    space = make_space("features", made._replace(training=None))
    assert space.gallery is made.gallery.features
    assert space.held_out is made.held_out.features
    assert space.memory is made.memory
    np.testing.assert_allclose(space.absent, slow_means(made.memory, schema), atol=1e-6)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_discriminants_are_those_of_the_training_images(rng, schema):
    made = material(rng, schema)
    space = make_space("discriminant", made)
    matrices = fit_discriminants(made.training.features, made.training.labels, schema).astype(np.float64)
    assert matrices.shape[2] == max(schema.sizes) - 1
    for found, given in (
        (space.gallery, made.gallery.features),
        (space.held_out, made.held_out.features),
        (space.memory, made.memory),
    ):
        expected = [[given[row, n] @ matrices[n] for n in range(given.shape[1])] for row in range(len(given))]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert found.dtype == np.float32
    np.testing.assert_allclose(space.absent, slow_means(space.memory, schema), atol=1e-5)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_erasure_is_that_of_the_training_images_and_takes_prototypes_along(rng, schema):
    made = material(rng, schema)
    space = make_space("erased", made)
    erasure = fit_conditional_erasure(made.training.features, made.training.labels, schema)
    n = schema.num_attributes
    for found, these in ((space.gallery, made.gallery), (space.held_out, made.held_out)):
        expected = [
            [erasure.matrices[j] @ row[j] + erasure.offsets[j] for j in range(n)] for row in these.features
        ]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    expected = np.zeros_like(made.memory)
    for value in range(schema.num_values):
        j = schema.attribute_of[value]
        expected[value, j] = erasure.matrices[j] @ made.memory[value, j] + erasure.offsets[j]
    np.testing.assert_allclose(space.memory, expected, atol=1e-5)
    np.testing.assert_allclose(space.absent, slow_means(space.memory, schema), atol=1e-5)


def test_a_prototype_stays_the_mean_of_erased_features(rng):
    """And where a fine-tuned memory has differences, in the blocks of others, an offset moves nothing."""
    made = material(rng)
    erasure = Erasure(rng.normal(size=(2, DIM, DIM)), rng.normal(size=(2, DIM)))
    training = made.training
    mapped = np.einsum("nde,mne->mnd", erasure.matrices, training.features) + erasure.offsets
    expected = class_prototypes(mapped.astype(np.float32), training.labels, SCHEMA)
    np.testing.assert_allclose(erased_space(made, erasure).memory, expected, atol=1e-4)
    off_block = rng.normal(size=made.memory.shape).astype(np.float32)
    found = erased_space(made._replace(memory=off_block), erasure).memory
    np.testing.assert_allclose(found[0, 1], erasure.matrices[1] @ off_block[0, 1], atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_fitted_prototypes_are_those_of_the_training_images(rng, schema):
    made = material(rng, schema)
    space = make_space("fitted", made)
    assert space.gallery is made.gallery.features
    assert space.held_out is made.held_out.features
    np.testing.assert_array_equal(
        space.memory, fit_memory(made.training.features, made.training.labels, schema)
    )
    np.testing.assert_allclose(space.absent, slow_means(space.memory, schema), atol=1e-6)


@pytest.mark.parametrize("held_out", [30, 0])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_every_space_has_the_shapes_that_a_search_needs(rng, name, schema, held_out):
    made = material(rng, schema, held_out=held_out)
    space = make_space(name, made)
    blocks, width = np.shape(space.gallery)[1:]
    assert blocks >= schema.num_attributes
    assert np.shape(space.gallery) == (12, blocks, width)
    assert np.shape(space.held_out) == (held_out, blocks, width)
    assert np.shape(space.memory) == (schema.num_values, blocks, width)
    assert np.shape(space.absent) == (schema.num_attributes, width)
    for part in space:
        assert part.dtype == jnp.float32
        assert np.isfinite(part).all()


@pytest.mark.parametrize("name", FITTED)
def test_what_is_fitted_needs_training_images(rng, name):
    assert FITTED == ["discriminant", "erased", "fitted"]
    with pytest.raises(AssertionError, match="it needs training images"):
        make_space(name, material(rng)._replace(training=None))
