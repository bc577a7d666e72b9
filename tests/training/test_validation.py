import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.errors import DataError
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.search.gallery import make_index, retrieve
from gradrev_jax.training import validation
from gradrev_jax.training.validation import make_validator

SCHEMA = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=3, width=1 / 64)


@pytest.fixture(scope="module")
def params():
    return jax.jit(ENCODER.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def validator(labels, **options):
    # Large squares of one colour: images of noise are so alike that rounding decides which is nearer.
    squares = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2, 3), dtype=np.uint8)
    images = squares.repeat(32, axis=1).repeat(32, axis=2)
    settings = {"normalize": "global", "batch_size": 4, "progress": False, **options}
    return images, make_validator(ENCODER, images, labels, settings.pop("queries", None), **settings)


@pytest.mark.long
def test_an_encoder_is_judged_by_its_macro_accuracy(params):
    labels = np.array([[0, 1], [1, -1], [0, 0], [1, 1], [0, 1]], np.int32)
    images, validate = validator(labels)
    record, score = validate(params, None)
    normalized = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    logits = np.asarray(ENCODER.apply(params, jnp.asarray(normalized, jnp.float32)).logits)
    color = [int(logits[i, 0, :2].argmax() == labels[i, 0]) for i in range(5)]
    size = [int(logits[i, 1, 2:].argmax() == labels[i, 1]) for i in (0, 2, 3, 4)]
    assert record["validation_accuracy"]["per_attribute"] == pytest.approx(
        {"color": np.mean(color), "size": np.mean(size)}
    )
    assert score == pytest.approx((np.mean(color) + np.mean(size)) / 2)


def test_features_are_kept_for_a_search_alone(params, monkeypatch):
    labels = np.array([[0, 0], [1, 0]], np.int32)
    monkeypatch.setattr(validation, "encode", lambda *_, **__: pytest.fail("features fill the memory"))
    memory = np.zeros((4, 2, 3), np.float32)
    for queries in (None, generate_queries(labels[:1], SCHEMA)):
        _, validate = validator(labels, queries=queries)
        assert validate(params, None).score is not None
        record, score = validate(params, memory)
        assert (list(record), score) == (["validation_accuracy"], None)


@pytest.mark.long
def test_a_memory_is_judged_by_its_hit_rate(params):
    labels = np.array([[0, 0], [1, 0], [0, 0], [1, 0]], np.int32)
    queries = generate_queries(labels, SCHEMA)
    images, validate = validator(labels, queries=queries)
    normalized = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    features = np.asarray(ENCODER.apply(params, jnp.asarray(normalized, jnp.float32)).features)
    # A memory that carries image 0 onto image 1 hits at once with that query.
    memory = np.zeros((4, 2, 3), np.float32)
    memory[1] = features[1] - features[0]
    record, score = validate(params, memory)
    assert list(record["validation_hit_rate"]) == ["2"]
    assert score == record["validation_hit_rate"]["2"]
    expected = []
    for q in range(len(queries)):
        edited = features[queries.reference[q]] + np.einsum("v,vnd->nd", queries.indicators[q], memory)
        flat = [edited.ravel() / np.linalg.norm(edited)]
        flat += [f.ravel() / np.linalg.norm(f) for f in features]
        order = np.argsort([np.linalg.norm(g - flat[0]) for g in flat[1:]])[:2]
        expected.append((labels[order] == queries.targets[q]).all(axis=1).any())
    assert score == pytest.approx(np.mean(expected))
    assert expected[0]


def test_a_memory_is_judged_at_the_weights_that_are_given(params, monkeypatch):
    """The features of the run itself are searched again: rounding decides what is near among so few."""
    labels = np.random.default_rng(5).integers(0, 2, (12, 2)).astype(np.int32)
    queries = generate_queries(labels, SCHEMA)
    memory = np.random.default_rng(3).normal(size=(4, 2, 3)).astype(np.float32)
    made, scores = [], set()

    def spy(*given, **options):
        made.append((given, options))
        return make_index(*given, **options)

    monkeypatch.setattr(validation, "make_index", spy)
    for weights in ([1.0, 0.01], [0.01, 1.0]):
        _, validate = validator(labels, queries=queries, weights=np.array(weights))
        score = validate(params, memory).score
        (features, *_), _ = made[-1]
        index = make_index(features, memory, "global", weights)
        found = retrieve(index, queries.reference, queries.indicators, 6, progress=False)
        expected = (labels[found] == queries.targets[:, None]).all(axis=2).any(axis=1).mean()
        assert score == pytest.approx(expected)
        scores.add(expected)
    assert len(scores) == 2, "the weights make a difference"


def test_an_encoder_whose_features_cannot_be_compared_is_named(params):
    labels = np.array([[0, 0], [1, 0], [0, 0], [1, 0]], np.int32)
    _, validate = validator(labels, queries=generate_queries(labels, SCHEMA))
    dead = jax.tree.map(jnp.zeros_like, params)
    with pytest.raises(DataError, match="features are zero in row 0.*the encoder has diverged"):
        validate(dead, np.zeros((4, 2, 3), np.float32))


@pytest.mark.parametrize(
    "labels", [np.zeros((0, 2), np.int32), np.full((3, 2), -1, np.int32)], ids=["no image", "no label"]
)
def test_nothing_to_judge_by(params, labels):
    _, validate = validator(labels)
    assert validate(params, None) == ({}, None)
    assert validate(params, np.zeros((4, 2, 3), np.float32)) == ({}, None)


def test_no_query_leaves_the_accuracy(params):
    labels = np.array([[0, 0], [1, 1]], np.int32)
    _, validate = validator(labels, queries=generate_queries(labels, SCHEMA))
    record, score = validate(params, np.zeros((4, 2, 3), np.float32))
    assert list(record) == ["validation_accuracy"]
    assert score is None
