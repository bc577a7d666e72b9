import pathlib

import numpy as np
import pytest

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.vector_rows import VectorArray, Vectors
from gradrev_jax.data.vectors.source import EmbeddedImages


def embedded(root, array):
    vectors = Vectors(VectorArray(array), np.arange(len(array)))
    return EmbeddedImages(ImageFiles(root, ("a.jpg", "b.jpg")), vectors)


def test_an_image_is_known_by_its_vector_and_needs_no_file():
    array = np.random.default_rng(0).normal(size=(2, 1, 5))
    images = embedded(pathlib.Path("nowhere"), array)
    assert isinstance(images, ImageSource)
    assert (len(images), images.name(1)) == (2, "b.jpg")
    assert images.digest(1) == images.vectors.digest(1) != images.digest(0)
    with pytest.raises(FileNotFoundError):
        images.read(0, Transform(8, 8))


def test_a_picture_is_that_of_the_file(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "b.jpg")
    picture = embedded(tmp_path, np.zeros((2, 1, 5))).read(1, Transform(8, 8))
    assert picture.shape == (8, 8, 3)
    assert picture[..., 0].min() > 250


def test_as_many_vectors_as_images_are_needed():
    with pytest.raises(ValueError, match="2 images but 3 vectors"):
        embedded(pathlib.Path("nowhere"), np.zeros((3, 1, 5)))
