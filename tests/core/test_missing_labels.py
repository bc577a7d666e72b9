import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.missing_labels import MISSING, class_labels, classes_of, value_positions
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inference import count_correct, encode
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.objective import StepContext

SCHEMA = AttributeSchema(("color", "size", "one"), (("blue", "red", "green"), ("s", "m"), ("x",)))
LABELS = np.array([[0, 1, 0], [2, -1, -1], [-1, 0, 0], [1, 1, -1]])


def test_values_keep_their_numbers_and_their_names():
    classes = classes_of(SCHEMA, "value")
    positions = value_positions(SCHEMA, "value")
    assert [classes.value_name(int(p)) for p in positions] == [SCHEMA.value_name(v) for v in range(6)]
    np.testing.assert_array_equal(classes.attribute_of[positions], SCHEMA.attribute_of)
    assert classes.sizes == (4, 3, 2)


@pytest.mark.parametrize("jitted", [False, True])
def test_a_missing_label_is_the_last_class(jitted):
    def convert(labels):
        return class_labels(labels, SCHEMA, "value")

    found = np.asarray((jax.jit(convert) if jitted else convert)(LABELS))
    expected = [[s if y == -1 else y for y, s in zip(row, SCHEMA.sizes, strict=True)] for row in LABELS]
    np.testing.assert_array_equal(found, expected)


def test_nothing_changes_where_missing_labels_are_ignored():
    assert classes_of(SCHEMA, "ignore") is SCHEMA
    assert class_labels(LABELS, SCHEMA, "ignore") is LABELS
    np.testing.assert_array_equal(value_positions(SCHEMA, "ignore"), np.arange(6))


def test_a_value_may_have_the_name_of_the_class():
    schema = AttributeSchema(("color",), (("not labelled", "red"),))
    assert classes_of(schema, "value").values == (("not labelled", "red", "not labelled*"),)


def test_another_word_is_an_error(unchecked):
    with pytest.raises(ValueError, match="^missing must be one of ignore, value, got 'drop'"):
        classes_of(SCHEMA, "drop")


def make(missing, **fields):
    encoder = AttributeEncoder(SCHEMA, feature_dim=8, backbone="embeddings", missing=missing, **fields)
    return encoder, encoder.init(jax.random.key(0), jnp.zeros((1, 16)))


@pytest.mark.long
@pytest.mark.parametrize("heads", ["shared", "pairwise"])
def test_a_missing_label_is_trained_on_as_any_other(heads):
    """With the class, the loss is that of a schema that has it as a value and of images that are labelled."""
    encoder, params = make("value", heads=heads)
    plain = AttributeEncoder(encoder.classes, feature_dim=8, backbone="embeddings", heads=heads)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16)), jnp.float32)
    loss, context = EncoderObjective().loss, StepContext(jax.random.key(1))
    given, _ = loss(encoder, params, inputs, jnp.asarray(LABELS), context)
    expected, _ = loss(plain, params, inputs, jnp.asarray(class_labels(LABELS, SCHEMA, "value")), context)
    np.testing.assert_array_equal(given, expected)


@pytest.mark.long
@pytest.mark.parametrize("missing", MISSING)
def test_labelled_images_are_judged_among_the_values_alone(missing):
    """An image that has a label is never predicted to have none."""
    encoder, params = make(missing)
    inputs = np.random.default_rng(0).normal(size=(4, 1, 16)).astype(np.float32)
    if missing == "value":  # by far the likeliest class
        bias = params["params"]["heads"]["bias"]
        last = np.cumsum(encoder.classes.sizes) - 1
        params["params"]["heads"]["bias"] = bias.at[last].set(1e4)
    encoded = encode(params, inputs, LABELS, encoder, batch_size=2, description="", progress=False)
    logits = encoder.apply(params, encoder.inputs.normalize(inputs)).logits
    positions = value_positions(SCHEMA, missing)
    for m, row in enumerate(LABELS):
        for n, label in enumerate(row):
            own = positions[SCHEMA.attribute_of == n]
            right = -1 if label == -1 else int(logits[m, n, own].argmax() == label)
            assert encoded.own_correct[m, n] == right
            np.testing.assert_array_equal(
                encoded.own_logits[m][encoder.classes.attribute_of == n],
                logits[m, n][encoder.classes.attribute_of == n],
            )
    counts = count_correct(
        params,
        inputs,
        LABELS,
        encoder,
        batch_size=3,
        description="",
        progress=False,
    )
    np.testing.assert_array_equal(counts.correct, encoded.correct)


def test_the_backbones_outputs_are_encoded_too():
    encoder, params = make("ignore")
    inputs = np.random.default_rng(0).normal(size=(5, 1, 16)).astype(np.float32)
    encoded = encode(
        params, inputs, LABELS[[0, 1, 2, 3, 0]], encoder, batch_size=2, description="", progress=False
    )
    described = encoder.apply(params, encoder.inputs.normalize(inputs), method="full_output")
    np.testing.assert_allclose(encoded.embeddings, described.embedding, rtol=1e-6)
    np.testing.assert_allclose(encoded.features, described.features, rtol=1e-6, atol=1e-6)
    empty = encode(params, inputs[:0], LABELS[:0], encoder, batch_size=2, description="", progress=False)
    assert empty.embeddings.shape == (0, 16)
    assert empty.own_logits.shape == (0, 6)
