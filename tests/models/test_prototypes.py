import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.models.interface import Encoder, FullOutput
from gradrev_jax.models.prototypes import build_memory

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
DIM = 5


class PixelFeatures(Encoder):
    """An encoder without parameters whose features are pixels; those of a black image are not zero."""

    @property
    def inputs(self):
        return PixelInputs(1)

    def full_output(self, images):
        pixels = images.reshape(len(images), -1)[:, : 2 * DIM]
        logits = jnp.zeros((len(images), 2, SCHEMA.num_values))
        return FullOutput(pixels, 1 + pixels.reshape(-1, 2, DIM) / 100, logits)


ENCODER = PixelFeatures(SCHEMA, DIM)


def part(rng, count):
    images = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    labels = np.stack([rng.integers(-1, size, count) for size in SCHEMA.sizes], axis=1).astype(np.int32)
    return images, labels


def build(parts, batch_size=4):
    return np.asarray(build_memory({}, parts, ENCODER, batch_size=batch_size, progress=False))


def together(parts):
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return np.asarray(
        ENCODER.apply({}, ENCODER.inputs.normalize(images), method="full_output").features
    ), labels


@pytest.mark.long
@pytest.mark.parametrize(
    ("counts", "batch_size"),
    [((8,), 4), ((8, 4), 4), ((11,), 4), ((7, 0, 6), 64), ((0, 3), 64), ((1, 1), 1)],
)
def test_batches_and_parts_give_the_prototypes_of_all_images_at_once(rng, counts, batch_size):
    parts = [part(rng, count) for count in counts]
    expected = class_prototypes(*together(parts), SCHEMA)
    np.testing.assert_allclose(build(parts, batch_size), expected, rtol=1e-5)


def test_each_prototype_is_the_mean_over_the_images_with_its_value(rng):
    parts = [part(rng, 9), part(rng, 6)]
    features, labels = together(parts)
    memory = build(parts)
    for v, n in enumerate([0, 0, 0, 1, 1]):
        chosen = [f[n] for f, row in zip(features, labels, strict=True) if row[n] == v - 3 * n]
        np.testing.assert_allclose(memory[v, n], np.mean(chosen, axis=0), rtol=1e-5)
        assert not memory[v, 1 - n].any()


def test_a_value_with_no_image_keeps_a_zero_prototype(rng):
    images, labels = part(rng, 10)
    labels[labels[:, 0] == 1, 0] = -1
    memory = build([(images, labels)])
    assert not memory[1].any()
    assert np.isfinite(memory).all()
    assert memory[0, 0].all()


def test_no_image_at_all(rng):
    memory = build([part(rng, 0)])
    assert memory.shape == (5, 2, DIM)
    assert not memory.any()
