import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.losses import classification_loss, pathway_losses, reversal_loss
from gradrev_jax.models.alexnet import AlexNet
from gradrev_jax.models.classifiers import Classifiers
from gradrev_jax.models.encoder import HEADS, AttributeEncoder
from tests.parameter_count import parameter_count

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
SHOPPING100K = AttributeSchema(
    tuple("category collar color fabric fastening fit gender neckline pattern pocket sleeve sport".split()),
    tuple(tuple(map(str, range(size))) for size in (16, 17, 19, 14, 10, 15, 2, 11, 16, 7, 9, 15)),
)
LABELS = np.array([[0, 1, 0], [2, -1, 0], [1, 0, -1], [2, 1, 0]])


IMAGES = np.random.default_rng(1).normal(size=(4, 2, 2, 3)).astype(np.float32)


def tiny(schema=SCHEMA, **fields):
    return AttributeEncoder(schema, feature_dim=5, **{"backbone": "toy", "tap": "dense_relu", **fields})


@functools.cache
def parameters(heads="shared"):
    return jax.jit(tiny(heads=heads).init)(jax.random.key(0), IMAGES)


@functools.cache
def compiled(**fields):
    """The encoder's outputs, a function of parameters, images and the scale of the reversal."""
    return jax.jit(lambda params, images, scale: tiny(**fields).apply(params, images, reversal_scale=scale))


def outputs(params, scale=1.0, **fields):
    return compiled(**fields)(params, IMAGES, scale)


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


def test_features_and_logits_of_alexnet_against_a_module_per_attribute():
    encoder = AttributeEncoder(SCHEMA, feature_dim=5, width=1 / 64)
    images = np.random.default_rng(1).normal(size=(2, 63, 63, 3)).astype(np.float32)
    output, params = jax.jit(encoder.init_with_output)(jax.random.key(0), images)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    backbone = jax.jit(AlexNet(width=1 / 64).apply)
    x = np.asarray(backbone({"params": params["params"]["backbone"]}, images), np.float64)
    for n in range(3):
        hidden = np.maximum(x @ weights["mlp_hidden"]["kernel"][n] + weights["mlp_hidden"]["bias"][n], 0)
        feature = hidden @ weights["mlp_out"]["kernel"][n] + weights["mlp_out"]["bias"][n]
        np.testing.assert_allclose(output.features[:, n], feature, atol=1e-5)
        logits = feature @ weights["heads"]["kernel"] + weights["heads"]["bias"]
        np.testing.assert_allclose(output.logits[:, n], logits, atol=1e-5)


def test_pairwise_heads_against_a_classifier_for_each_pair():
    params = parameters("pairwise")
    output = outputs(params, heads="pairwise")
    kernel, bias = (np.asarray(params["params"]["heads"][name], np.float64) for name in ("kernel", "bias"))
    assert kernel.shape == (3, 5, 6)
    assert bias.shape == (3, 6)
    features = np.asarray(output.features, np.float64)
    for j in range(3):
        for v in range(6):
            expected = features[:, j] @ kernel[j, :, v] + bias[j, v]
            np.testing.assert_allclose(output.logits[:, j, v], expected, atol=1e-5)


def test_pairwise_heads_have_n_times_the_parameters():
    assert count(SHOPPING100K, heads="pairwise") - count(SHOPPING100K) == 11 * (340 * 151 + 151)


def test_classify_reads_features_from_elsewhere_and_reverses_nothing():
    params = parameters()
    features, logits = outputs(params)

    def total(features):
        logits = tiny().apply(params, features, method="classify")
        return logits.sum(), logits

    gradient, again = jax.jit(jax.grad(total, has_aux=True))(features)
    np.testing.assert_allclose(again, logits, atol=1e-6)
    kernel = np.asarray(params["params"]["heads"]["kernel"])
    expected = np.broadcast_to(kernel.sum(axis=1), features.shape)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_each_mlp_is_initialised_by_its_own_fan_in():
    encoder = AttributeEncoder(SHOPPING100K, feature_dim=340, width=16.0, tap="dense", backbone="toy")
    params = jax.jit(encoder.init)(jax.random.key(0), IMAGES)["params"]
    assert np.std(params["mlp_hidden"]["kernel"]) == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert np.std(params["mlp_out"]["kernel"]) == pytest.approx((1 / 340) ** 0.5, rel=0.02)


def test_values_do_not_depend_on_the_reversal():
    plain, reversed_ = (outputs(parameters(), scale) for scale in (0.0, 3.0))
    np.testing.assert_array_equal(plain.logits, reversed_.logits)


@functools.cache
def compiled_gradient(loss, reach):
    def total(params, images, scale):
        logits = tiny(reach=reach).apply(params, images, reversal_scale=scale).logits
        return loss(logits, LABELS, SCHEMA)

    return jax.jit(jax.grad(total))


def gradient(loss, scale, reach="backbone"):
    return compiled_gradient(loss, reach)(parameters(), IMAGES, scale)["params"]


def test_heads_learn_to_predict_and_the_rest_to_prevent_it():
    """Scale -1 is plain training: against it, the heads' gradient stays and all others change sign."""
    plain, reversed_, half = (gradient(reversal_loss, scale) for scale in (-1.0, 1.0, 0.5))
    for name in plain:
        for a, b, c in zip(*map(jax.tree.leaves, (plain[name], reversed_[name], half[name])), strict=True):
            sign = 1 if name == "heads" else -1
            scale = 1 if name == "heads" else -0.5
            np.testing.assert_allclose(b, sign * a, atol=1e-6)
            np.testing.assert_allclose(c, scale * a, atol=1e-6)
    assert np.abs(plain["backbone"]["colour"]["kernel"]).max() > 1e-4


@pytest.mark.long
@pytest.mark.parametrize("heads", HEADS)
def test_each_pathway_has_its_own_strength(heads):
    """Against a loop over pathways: head from its weights, then the reversal's scale by hand."""
    params = parameters(heads)
    strengths = np.array([[9.0, 0.5, 2.0], [0.0, 9.0, -1.0], [1.0, 3.0, 9.0]], np.float32)
    features = outputs(params, heads=heads).features

    @functools.partial(jax.jit, static_argnums=(3, 4))
    @functools.partial(jax.grad, argnums=(0, 1, 2))
    def pathway_gradient(features, kernel, bias, j, n):
        logits = features[:, j] @ (kernel[j] if heads == "pairwise" else kernel)
        logits = logits + (bias[j] if heads == "pairwise" else bias)
        start = SCHEMA.offsets[n]
        scores = jax.nn.log_softmax(logits[:, start : start + SCHEMA.sizes[n]])
        picked = [scores[b, LABELS[b, n]] for b in range(4) if LABELS[b, n] >= 0]
        return -sum(picked) / max(len(picked), 1)

    leaves = [params["params"]["heads"][name] for name in ("kernel", "bias")]
    expected = [jnp.zeros_like(leaf) for leaf in (features, *leaves)]
    for j in range(3):
        for n in range(3):
            parts = pathway_gradient(features, *leaves, j, n)
            factor = 1.0 if j == n else -strengths[j, n]
            expected = [a + b for a, b in zip(expected, (factor * parts[0], *parts[1:]), strict=True)]

    def total(params, images, offset):
        def shifted(module, images):
            x = module.network(images, False)
            return module._logits(x, module._mlps(x) + offset, strengths)

        return pathway_losses(nn.apply(shifted, tiny(heads=heads))(params, images), LABELS, SCHEMA).sum()

    by_params, by_features = jax.jit(jax.grad(total, argnums=(0, 2)))(params, IMAGES, np.zeros((4, 3, 5)))
    np.testing.assert_allclose(by_features, expected[0], atol=1e-5)
    np.testing.assert_allclose(by_params["params"]["heads"]["kernel"], expected[1], atol=1e-5)
    np.testing.assert_allclose(by_params["params"]["heads"]["bias"], expected[2], atol=1e-5)


@pytest.mark.parametrize("pairwise", [False, True])
def test_the_reversal_adds_no_product(pairwise):
    """One product forward and two backward, as without it: counted in what XLA compiles."""
    classifiers = Classifiers(SCHEMA, pairwise)
    features, scale = jnp.ones((16, 3, 64)), jnp.ones((3, 6))
    params = classifiers.init(jax.random.key(0), (features, scale))

    def total(params, features):
        return jnp.square(classifiers.apply(params, (features, scale))).sum()

    compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(params, features).compile().as_text()
    assert len(re.findall(r"= \S+ dot\(", compiled)) == 3


def test_reach_mlp_spares_the_backbone():
    """The reversed gradient moves the MLPs as before, and the backbone not at all."""
    far = gradient(reversal_loss, 1.0)
    near = gradient(reversal_loss, 1.0, reach="mlp")
    for name in ("mlp_hidden", "mlp_out", "heads"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), near[name], far[name])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(near["backbone"]))
    own = gradient(classification_loss, 1.0)
    own_near = gradient(classification_loss, 1.0, reach="mlp")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), own_near, own)


def test_the_own_pathway_is_not_reversed():
    reversed_, plain = (gradient(classification_loss, scale) for scale in (1.0, -1.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), reversed_, plain)


@pytest.mark.long
def test_one_attribute_with_one_value():
    schema = AttributeSchema(("only",), (("x",),))
    output, _ = jax.jit(tiny(schema).init_with_output)(jax.random.key(0), IMAGES)
    assert output.logits.shape == (4, 1, 1)
    labels = np.zeros((4, 1), int)
    assert classification_loss(output.logits, labels, schema) == 0
    assert reversal_loss(output.logits, labels, schema) == 0


def test_bfloat16_gives_float32_outputs():
    low, exact = outputs(parameters(), dtype=jnp.bfloat16), outputs(parameters())
    assert low.features.dtype == low.logits.dtype == jnp.float32
    assert not np.array_equal(low.features, exact.features)
    np.testing.assert_allclose(low.features, exact.features, atol=0.1 * float(jnp.abs(exact.features).max()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": "many"}, "^heads must be one of shared, pairwise, got 'many'"),
        ({"reach": "far"}, "^reach must be one of backbone, mlp, got 'far'"),
    ],
)
def test_unknown_words(unchecked, fields, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(tiny(**fields).init, jax.random.key(0), IMAGES)


def test_what_does_not_fit_the_encoder(unchecked):
    encoder, images = tiny(), jnp.asarray(IMAGES)
    params = jax.eval_shape(encoder.init, jax.random.key(0), images)
    with pytest.raises(ValueError, match=r"images must be \[B, S, S, 3\], got \(2, 2, 3\)"):
        jax.eval_shape(encoder.apply, params, images[0])
    for scale in (jnp.ones(3), jnp.ones((2, 2)), jnp.ones((1, 3))):
        with pytest.raises(ValueError, match=r"reversal_scale must be one number or \[3, 3\], got"):
            jax.eval_shape(lambda p, x, s=scale: encoder.apply(p, x, reversal_scale=s), params, images)
    for shape in ((4, 3), (4, 2, 5), (4, 3, 6), (3, 5)):
        with pytest.raises(ValueError, match=r"features must be \[B, 3, 5\], got"):
            jax.eval_shape(lambda p, f: encoder.apply(p, f, method="classify"), params, jnp.zeros(shape))


@pytest.fixture(scope="module")
def cosine_parameters():
    return {
        heads: jax.jit(tiny(heads=heads, unit_features=True).init)(jax.random.key(0), IMAGES)
        for heads in HEADS
    }


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.long
@pytest.mark.parametrize("heads", HEADS)
def test_unit_features_are_directions_and_their_logits_scaled_cosines(cosine_parameters, heads):
    params = cosine_parameters[heads]
    output = outputs(params, heads=heads, unit_features=True, logit_scale=7.0)
    (name,) = params["params"]["heads"]
    assert name == "kernel", "cosines have no bias"
    kernel = np.asarray(params["params"]["heads"]["kernel"], np.float64)
    kernel = np.broadcast_to(kernel, (3, 5, 6))
    of_any_length = tiny(heads=heads).bind(
        {"params": {**params["params"], "heads": {"kernel": kernel, "bias": np.zeros(6)}}}
    )
    directions = unit(np.asarray(of_any_length._mlps(of_any_length.network(IMAGES)), np.float64))
    np.testing.assert_allclose(output.features, directions, atol=1e-6)
    for j in range(3):
        for v in range(6):
            expected = 7 * directions[:, j] @ unit(kernel[j, :, v])
            np.testing.assert_allclose(output.logits[:, j, v], expected, atol=1e-5)


def test_unit_features_in_bfloat16_are_of_its_precision(cosine_parameters):
    params = cosine_parameters["shared"]
    low, exact = (outputs(params, unit_features=True, dtype=dtype) for dtype in (jnp.bfloat16, jnp.float32))
    assert low.features.dtype == low.logits.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(low.features, axis=-1), 1, atol=2**-7)
    np.testing.assert_allclose(low.features, exact.features, atol=0.1)


def test_unit_features_are_the_same_whatever_the_length_of_weights(cosine_parameters):
    params = cosine_parameters["shared"]
    longer = {**params["params"], "heads": {"kernel": 3 * params["params"]["heads"]["kernel"]}}
    plain, scaled = (outputs(p, unit_features=True) for p in (params, {"params": longer}))
    np.testing.assert_allclose(plain.logits, scaled.logits, atol=1e-5)
    assert np.abs(plain.logits).max() <= 20 * (1 + 1e-6)


def test_classify_compares_the_directions_of_edited_features(cosine_parameters):
    params = cosine_parameters["shared"]
    features, logits = outputs(params, unit_features=True)
    encoder = tiny(unit_features=True)
    classify = jax.jit(lambda features: encoder.apply(params, features, method="classify"))
    np.testing.assert_allclose(classify(features), logits, atol=1e-5)
    np.testing.assert_allclose(classify(2.5 * features), logits, atol=1e-5)
    edited = np.asarray(features, np.float64) + np.random.default_rng(2).normal(size=(3, 5))
    kernel = unit(np.asarray(params["params"]["heads"]["kernel"], np.float64).T).T
    np.testing.assert_allclose(classify(edited.astype(np.float32)), 20 * unit(edited) @ kernel, atol=1e-5)
    assert (classify(jnp.zeros_like(features)) == 0).all()


def test_the_gradient_of_unit_features_is_that_of_finite_differences(cosine_parameters):
    params = cosine_parameters["shared"]["params"]
    loss = jax.jit(
        lambda params: classification_loss(
            tiny(unit_features=True).apply({"params": params}, jnp.asarray(IMAGES)).logits, LABELS, SCHEMA
        )
    )
    gradient = jax.jit(jax.grad(loss))(params)
    rng = np.random.default_rng(0)
    for part in ("mlp_out", "heads"):
        direction = rng.normal(size=params[part]["kernel"].shape).astype(np.float32)
        ahead, behind = (
            loss({**params, part: {**params[part], "kernel": params[part]["kernel"] + step * direction}})
            for step in (1e-2, -1e-2)
        )
        slope = float(np.sum(np.asarray(gradient[part]["kernel"]) * direction))
        assert slope == pytest.approx(float(ahead - behind) / 2e-2, rel=2e-2)
    along = np.asarray(gradient["heads"]["kernel"] * params["heads"]["kernel"]).sum(axis=0)
    np.testing.assert_allclose(along, 0, atol=1e-5)  # lengths do not matter


def test_unit_features_reverse_as_others_do(cosine_parameters):
    """The gradient of L_rev has the opposite sign at the features, and the same at the classifiers."""
    params = cosine_parameters["shared"]["params"]

    @jax.jit
    def gradients(scale):
        def total(params):
            output = tiny(unit_features=True).apply(
                {"params": params}, jnp.asarray(IMAGES), reversal_scale=scale
            )
            return reversal_loss(output.logits, LABELS, SCHEMA)

        return jax.grad(total)(params)

    plain, reversed_ = gradients(-1.0), gradients(2.0)
    np.testing.assert_allclose(reversed_["heads"]["kernel"], plain["heads"]["kernel"], atol=1e-5)
    np.testing.assert_allclose(reversed_["mlp_out"]["kernel"], -2 * plain["mlp_out"]["kernel"], atol=1e-5)
