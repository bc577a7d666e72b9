import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.backbones import BACKBONES, find_backbone
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inference import encode
from gradrev_jax.training.encoder_step import init_state, make_train_step

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


@pytest.mark.long
def test_a_backbone_of_one_line_in_the_dict_is_trained_and_evaluated(rng):
    encoder = AttributeEncoder(SCHEMA, feature_dim=3, tap="dense", backbone="toy")
    optimizer = optax.sgd(0.1)
    state = init_state(encoder, optimizer, input_size=4, seed=0)
    before = jax.tree.map(np.array, state.params)
    assert before["params"]["backbone"]["colour"]["kernel"].shape == (3, 16)
    images = rng.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    labels = np.array([[0, 1], [1, -1], [2, 0], [0, 0], [-1, 1], [1, 1]])
    step = make_train_step(encoder, optimizer, seed=0, total_steps=1)
    trained, metrics = step(state, images, labels)
    assert np.isfinite(metrics.loss)
    changed = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), trained.params, before)
    assert all(jax.tree.leaves(changed))
    encoded = encode(trained.params, images, labels, encoder, batch_size=4, description="", progress=False)
    assert encoded.features.shape == (6, 2, 3)
    assert encoded.labelled.tolist() == [5, 5]


def test_the_width_and_the_dtype_reach_the_backbone():
    encoder = AttributeEncoder(
        SCHEMA, feature_dim=3, tap="dense", width=0.5, dtype=jnp.bfloat16, backbone="toy"
    )
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    assert shapes["params"]["backbone"]["colour"]["kernel"].shape == (3, 8)
    backbone = BACKBONES["toy"].build("dense", 1.0, 0.0, jnp.bfloat16)
    features, _ = jax.eval_shape(backbone.init_with_output, jax.random.key(0), jnp.zeros((2, 4, 4, 3)))
    assert features.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"backbone": "resnet"},
            "^backbone must be one of alexnet, efficientnet_lite0, embeddings, toy, got 'resnet'",
        ),
        ({"backbone": "toy", "tap": "fc6_relu"}, "^tap must be one of dense, dense_relu, got 'fc6_relu'"),
        ({"tap": "fc8"}, "^tap must be one of fc6_relu, fc6, fc7, fc7_relu, got 'fc8'"),
        (
            {"backbone": "toy", "tap": "dense"},
            "^images must be at least 2 x 2 pixels, got 1 x 1; resize them",
        ),
        ({}, "^images must be at least 63 x 63 pixels, got 1 x 1; resize them"),
    ],
)
def test_an_encoder_that_does_not_fit_its_backbone(fields, message):
    encoder = AttributeEncoder(SCHEMA, feature_dim=3, **fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 1, 1, 3)))


def test_alexnet_is_found_by_its_name():
    assert find_backbone("alexnet").inputs.smallest == 63
