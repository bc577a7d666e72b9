import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.models.inputs import PixelInputs, VectorInputs, normalize_images, random_flip
from gradrev_jax.models.shards import BatchShard


def test_flips_are_whole_images_half_of_the_time():
    pixels = np.random.default_rng(0).integers(0, 256, (400, 3, 3, 3), dtype=np.uint8)
    flipped = np.asarray(random_flip(jax.random.key(0), jnp.asarray(pixels)))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, pixels, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, pixels, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 0.4 < np.mean(mirrored) < 0.6


def test_pixels_are_normalised_as_imagenet_weights_expect():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    expected = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(normalize_images(pixels), expected, atol=1e-5)


def test_a_shard_is_mirrored_as_the_whole_batch_is():
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 3, 3, 3), dtype=np.uint8))
    whole = random_flip(jax.random.key(0), pixels)
    rows = jnp.array([5, 2, 7])
    part = random_flip(jax.random.key(0), pixels[rows], BatchShard(rows, size=8))
    np.testing.assert_array_equal(part, whole[rows])


def test_images_that_are_normalised_already(unchecked):
    with pytest.raises(ValueError, match=r"must be uint8 \[B, S, S, 3\], got float32 \(1, 2, 2, 3\)"):
        normalize_images(np.zeros((1, 2, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"must be uint8 \[B, S, S, 3\], got uint8 \(1, 3, 2, 2\)"):
        normalize_images(np.zeros((1, 3, 2, 2), np.uint8))


def test_a_network_may_expect_another_normalisation():
    pixels = np.array([[[[0, 127, 255]]]], np.uint8)
    inputs = PixelInputs(smallest=1, mean=(127 / 255,) * 3, std=(128 / 255,) * 3).normalize(pixels)
    np.testing.assert_allclose(inputs, [[[[-127 / 128, 0, 1]]]], atol=1e-6)


def views_of(count):
    """Vectors of which the first view is even and the second odd, all different."""
    return jnp.arange(count * 2 * 3, dtype=jnp.float32).reshape(count, 3, 2).swapaxes(1, 2)


def test_one_of_two_views_is_drawn_as_images_are_mirrored():
    vectors, key = views_of(400), jax.random.key(0)
    drawn = VectorInputs().augment(key, vectors, None)
    assert drawn.shape == (400, 1, 3)
    pixels = jnp.zeros((400, 2, 2, 3), jnp.uint8).at[:, :, 1].set(1)
    mirrored = np.asarray(random_flip(key, pixels))[:, 0, 0, 0] == 1
    expected = np.where(mirrored[:, None], vectors[:, 1], vectors[:, 0])
    np.testing.assert_array_equal(VectorInputs().normalize(drawn), expected)
    assert 0.4 < mirrored.mean() < 0.6


def test_a_shard_of_vectors_is_drawn_as_the_whole_batch_is():
    vectors, rows = views_of(8), jnp.array([5, 2, 7])
    whole = VectorInputs().augment(jax.random.key(0), vectors, None)
    part = VectorInputs().augment(jax.random.key(0), vectors[rows], BatchShard(rows, size=8))
    np.testing.assert_array_equal(part, whole[rows])


def test_vectors_of_one_view_stay_as_they_are():
    vectors = views_of(4)[:, :1]
    np.testing.assert_array_equal(VectorInputs().augment(jax.random.key(0), vectors, None), vectors)
    np.testing.assert_array_equal(VectorInputs().normalize(vectors), vectors[:, 0])


def test_what_cannot_be_vectors():
    VectorInputs().check(jnp.zeros((2, 3)))
    for wrong in (jnp.zeros((2, 3, 1)), jnp.zeros(3), jnp.zeros((2, 3), jnp.int32)):
        with pytest.raises(ValueError, match=r"^vectors must be floating-point \[B, D\], got"):
            VectorInputs().check(wrong)
