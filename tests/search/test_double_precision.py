"""Searches where JAX computes in float64, and whole numbers have 64 bits."""

import jax
import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex, nearest_neighbors

SCHEMA = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))


@pytest.fixture(autouse=True)
def double_precision():
    jax.config.update("jax_enable_x64", True)  # the context manager would not reach the threads of a search
    yield
    jax.config.update("jax_enable_x64", False)


def nearest(queries, gallery, k):
    squares = np.square(queries[:, None] - gallery[None]).sum(axis=-1)
    return np.argsort(squares, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("size", [1.0, 1e-170])  # of the second, squares underflow
@pytest.mark.parametrize("rows", [9, 200])
def test_nearest_neighbors(rng, rows, size):
    queries, gallery = rng.normal(size=(3, 8)) * size, rng.normal(size=(rows, 8)) * size
    found = nearest_neighbors(queries, gallery, 2)
    assert found.indices.dtype == np.int32
    np.testing.assert_array_equal(found.indices, nearest(queries / size, gallery / size, 2))


def test_numbers_that_are_equal_in_float32():
    gallery = np.array([[1.0], [1.0 + 1e-12]])
    assert nearest_neighbors(gallery[1:], gallery, 1).indices.tolist() == [[1]]


@pytest.mark.parametrize("edit", ["add", "replace"])
def test_manipulations(rng, edit):
    gallery = rng.normal(size=(60, 2, 4))
    memory = rng.normal(size=(4, 2, 4)) * SCHEMA.membership[:, :, None]
    indicators = np.array([[-1, 1, 0, 0]] * 3)
    edited = gallery[:3].copy()
    edited[:, 0] = edited[:, 0] + memory[1, 0] - memory[0, 0] if edit == "add" else memory[1, 0]
    index = ManipulationIndex.build(gallery, memory, SCHEMA, "none", edit=edit)
    found = index.search(reference_ids=np.arange(3), indicators=indicators, k=5)
    np.testing.assert_array_equal(found.indices, nearest(edited.reshape(3, -1), gallery.reshape(60, -1), 5))


def test_a_gallery_of_equal_rows_is_searched_plainly(rng):
    gallery = np.ones((60, 2, 4), np.float32)
    index = ManipulationIndex.build(gallery, np.zeros((4, 2, 4), np.float32), SCHEMA)
    found = index.search(reference_ids=np.array([3]), indicators=np.zeros((1, 4), int), k=4)
    assert found.indices.tolist() == [[0, 1, 2, 3]]
