import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.losses import classification_loss, reversal_loss
from gradrev_jax.models.alexnet import AlexNet
from gradrev_jax.models.encoder import AttributeEncoder, parameter_count

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
SHOPPING100K = AttributeSchema(
    tuple("category collar color fabric fastening fit gender neckline pattern pocket sleeve sport".split()),
    tuple(tuple(map(str, range(size))) for size in (16, 17, 19, 14, 10, 15, 2, 11, 16, 7, 9, 15)),
)
LABELS = np.array([[0, 1, 0], [2, -1, 0], [1, 0, -1], [2, 1, 0]])


def tiny(schema=SCHEMA, **fields):
    return AttributeEncoder(schema, feature_dim=5, width=1 / 64, **fields)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (4, 64, 64, 3))


@pytest.fixture(scope="module")
def params(images):
    return tiny().init(jax.random.key(0), images)


def count(schema, **fields):
    images = jnp.zeros((1, 224, 224, 3))
    return parameter_count(jax.eval_shape(AttributeEncoder(schema, **fields).init, jax.random.key(0), images))


def test_parameter_count_of_the_shopping100k_encoder():
    assert SHOPPING100K.num_values == 151
    mlps = 12 * (4096 * 340 + 340 + 340 * 340 + 340)
    heads = 340 * 151 + 151
    backbone = 2_469_696 + 9216 * 4096 + 4096 + 4096 * 4096 + 4096
    assert count(SHOPPING100K, tap="fc7") == backbone + mlps + heads == 75_162_371
    # The reference checkpoint, 300,666,902 bytes, holds these floats and 17 kB of names.
    assert 0 < 300_666_902 - 4 * 75_162_371 < 20_000
    assert count(SHOPPING100K) == 75_162_371 - (4096 * 4096 + 4096)


def test_width_scales_the_backbone_alone():
    narrow = count(SCHEMA, width=0.5)
    mlps = 3 * (2048 * 340 + 340 + 340 * 340 + 340)
    filters = [(11, 3, 32), (5, 32, 96), (3, 96, 192), (3, 192, 128), (3, 128, 128)]
    backbone = sum(k * k * i * o + o for k, i, o in filters) + 36 * 128 * 2048 + 2048
    assert narrow == backbone + mlps + 340 * 6 + 6


def test_features_and_logits_against_a_module_per_attribute(images, params):
    output = tiny().apply(params, images)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    x = np.asarray(AlexNet(width=1 / 64).apply({"params": params["params"]["backbone"]}, images), np.float64)
    for n in range(3):
        hidden = np.maximum(x @ weights["mlp_hidden"]["kernel"][n] + weights["mlp_hidden"]["bias"][n], 0)
        feature = hidden @ weights["mlp_out"]["kernel"][n] + weights["mlp_out"]["bias"][n]
        np.testing.assert_allclose(output.features[:, n], feature, atol=1e-5)
        logits = feature @ weights["heads"]["kernel"] + weights["heads"]["bias"]
        np.testing.assert_allclose(output.logits[:, n], logits, atol=1e-5)


def test_each_mlp_is_initialised_by_its_own_fan_in():
    params = AttributeEncoder(SHOPPING100K, feature_dim=340, width=0.25).init(
        jax.random.key(0), jnp.zeros((1, 64, 64, 3))
    )["params"]
    assert np.std(params["mlp_hidden"]["kernel"]) == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert np.std(params["mlp_out"]["kernel"]) == pytest.approx((1 / 340) ** 0.5, rel=0.02)


def test_values_do_not_depend_on_the_reversal(images, params):
    plain = tiny().apply(params, images, reversal_scale=0.0)
    reversed_ = tiny().apply(params, images, reversal_scale=3.0)
    np.testing.assert_array_equal(plain.logits, reversed_.logits)


def gradient(loss, params, images, scale):
    def total(params):
        return loss(tiny().apply(params, images, reversal_scale=scale).logits, LABELS, SCHEMA)

    return jax.grad(total)(params)["params"]


def test_heads_learn_to_predict_and_the_rest_to_prevent_it(images, params):
    """Scale -1 is plain training: against it, the heads' gradient stays and all others change sign."""
    plain = gradient(reversal_loss, params, images, -1.0)
    reversed_ = gradient(reversal_loss, params, images, 1.0)
    half = gradient(reversal_loss, params, images, 0.5)
    for name in plain:
        for a, b, c in zip(*map(jax.tree.leaves, (plain[name], reversed_[name], half[name])), strict=True):
            sign = 1 if name == "heads" else -1
            scale = 1 if name == "heads" else -0.5
            np.testing.assert_allclose(b, sign * a, atol=1e-6)
            np.testing.assert_allclose(c, scale * a, atol=1e-6)
    assert np.abs(plain["backbone"]["conv1"]["kernel"]).max() > 1e-4


def test_the_own_pathway_is_not_reversed(images, params):
    for a, b in zip(
        jax.tree.leaves(gradient(classification_loss, params, images, 1.0)),
        jax.tree.leaves(gradient(classification_loss, params, images, -1.0)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_one_attribute_with_one_value(images):
    schema = AttributeSchema(("only",), (("x",),))
    output, _ = tiny(schema).init_with_output(jax.random.key(0), images)
    assert output.logits.shape == (4, 1, 1)
    labels = np.zeros((4, 1), int)
    assert classification_loss(output.logits, labels, schema) == 0
    assert reversal_loss(output.logits, labels, schema) == 0


def test_bfloat16_gives_float32_outputs(images, params):
    low = tiny(dtype=jnp.bfloat16).apply(params, images)
    exact = tiny().apply(params, images)
    assert low.features.dtype == low.logits.dtype == jnp.float32
    np.testing.assert_allclose(low.features, exact.features, atol=0.1 * float(jnp.abs(exact.features).max()))


def test_unknown_heads(images, unchecked):
    with pytest.raises(ValueError, match="model.heads must be one of shared, got 'many'"):
        tiny(heads="many").init(jax.random.key(0), images)
