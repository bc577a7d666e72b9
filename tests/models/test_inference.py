import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.forward import make_forward, predict_batches
from gradrev_jax.models.inference import count_correct, encode
from gradrev_jax.models.interface import EncoderOutput

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=5, tap="dense", backbone="toy")


@pytest.fixture(scope="module")
def params():
    return jax.jit(ENCODER.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


@pytest.fixture(scope="module")
def forward():
    return make_forward(ENCODER)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)


class Recorder:
    """A forward function whose outputs tell the images apart, and which keeps its inputs."""

    def __init__(self):
        self.batches = []

    def __call__(self, params, images):
        self.batches.append(images)
        first_pixel = jnp.asarray(images[:, 0, 0, 0], jnp.float32)
        return EncoderOutput(first_pixel[:, None, None], -first_pixel[:, None, None])


def numbered(count):
    """Returns images of one pixel; the value of image i is i + 1, which padding, 0, differs from."""
    return np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None], (count, 1, 1, 3))


def predict(forward, images, batch_size, params=None):
    return list(
        predict_batches(forward, params, images, batch_size=batch_size, description="", progress=False)
    )


@pytest.mark.parametrize(("count", "batches"), [(1, 1), (4, 1), (5, 2), (8, 2), (11, 3)])
def test_every_image_comes_once_and_in_order(count, batches):
    forward = Recorder()
    found = predict(forward, numbered(count), 4)
    assert len(found) == len(forward.batches) == batches
    rows = [row for rows, _ in found for row in range(rows.start, rows.stop)]
    assert rows == list(range(count))
    for rows, output in found:
        assert output.features.ravel().tolist() == [row + 1 for row in range(rows.start, rows.stop)]
        assert output.logits.ravel().tolist() == [-row - 1 for row in range(rows.start, rows.stop)]


def test_every_batch_has_the_full_size_so_that_one_compilation_serves_all():
    forward = Recorder()
    predict(forward, numbered(9), 4)
    assert [batch.shape for batch in forward.batches] == [(4, 1, 1, 3)] * 3
    assert forward.batches[-1][:, 0, 0, 0].tolist() == [9, 0, 0, 0]


def test_no_images_give_no_batch():
    forward = Recorder()
    assert predict(forward, numbered(0), 4) == []
    assert forward.batches == []


def test_the_forward_normalises_pixels_and_drops_nothing_out(forward, params, images):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = ((images / 255 - mean) / std).astype(np.float32)
    expected = jax.jit(ENCODER.apply)(params, normalised)
    output = forward(params, images)
    np.testing.assert_allclose(output.features, expected.features, atol=1e-5)
    np.testing.assert_allclose(output.logits, expected.logits, atol=1e-5)
    np.testing.assert_array_equal(output.logits, forward(params, images).logits)


@pytest.mark.parametrize("batch_size", [3, 7])
def test_encode_counts_right_answers_as_loops_do(forward, params, images, batch_size):
    labels = np.array([[0, 1, 0], [2, -1, 0], [1, 0, -1], [2, 1, 0], [-1, 0, 0], [0, 1, -1], [1, 1, 0]])
    whole = forward(params, images)
    correct, labelled, own = np.zeros((3, 3), int), np.zeros(3, int), np.full((7, 3), -1)
    for m, row in enumerate(labels):
        for n, (start, size) in enumerate([(0, 3), (3, 2), (5, 1)]):
            if row[n] < 0:
                continue
            labelled[n] += 1
            for j in range(3):
                scores = whole.logits[m, j, start : start + size].tolist()
                correct[j, n] += scores.index(max(scores)) == row[n]
                if j == n:
                    own[m, n] = scores.index(max(scores)) == row[n]
    encoded = encode(params, images, labels, ENCODER, batch_size=batch_size, description="", progress=False)
    assert encoded.correct.tolist() == correct.tolist()
    assert encoded.labelled.tolist() == labelled.tolist() == [6, 6, 5]
    assert encoded.own_correct.tolist() == own.tolist()
    assert {-1, 0, 1} == set(own.ravel().tolist())
    assert encoded.features.dtype == np.float32
    np.testing.assert_allclose(encoded.features, whole.features, atol=1e-6)
    counts = count_correct(
        params, images, labels, ENCODER, batch_size=batch_size, description="", progress=False
    )
    assert (counts.correct.tolist(), counts.labelled.tolist()) == (correct.tolist(), labelled.tolist())


def test_encode_without_images(forward, params, images):
    labels = np.zeros((0, 3), int)
    encoded = encode(params, images[:0], labels, ENCODER, batch_size=3, description="", progress=False)
    assert encoded.features.shape == (0, 3, 5)
    assert not encoded.correct.any()
    assert encoded.labelled.tolist() == [0, 0, 0]
    counts = count_correct(params, images[:0], labels, ENCODER, batch_size=3, description="", progress=False)
    assert not counts.correct.any()
    assert counts.labelled.tolist() == [0, 0, 0]
