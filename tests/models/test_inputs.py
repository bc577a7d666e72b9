import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.models.inputs import normalize_images, random_flip
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
