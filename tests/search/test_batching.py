import numpy as np
import pytest

from gradrev_jax.search.batching import (
    CHUNK_BYTES,
    drop_excluded,
    reference_chunk_size,
    validate_k,
    validate_reference_ids,
)


def test_many_references_are_split_into_equal_chunks():
    assert reference_chunk_size(200, 1) == 256
    assert reference_chunk_size(1581, 1) == 800
    assert reference_chunk_size(1581, CHUNK_BYTES // 300) == 272
    assert reference_chunk_size(1025, 1) == 528


def test_every_thread_has_as_many_chunks_as_the_others():
    assert reference_chunk_size(1581, 1, workers=2) == 800
    assert reference_chunk_size(1024, 1, workers=2) == 512
    assert reference_chunk_size(2100, 1, workers=2) == 528
    assert reference_chunk_size(1581, CHUNK_BYTES // 1200, workers=2) == 400


def test_the_excluded_row_goes_or_else_the_last():
    indices, distances = drop_excluded(
        np.array([[4, 2, 9], [4, 2, 9], [4, 2, 9]]), np.array([[0.0, 1, 2]] * 3), np.array([2, 7, 9])
    )
    assert indices.tolist() == [[4, 9], [4, 2], [4, 2]]
    assert distances.tolist() == [[0, 2], [0, 1], [0, 1]]
    assert drop_excluded(np.zeros((0, 3), int), np.zeros((0, 3)), np.zeros(0, int))[0].shape == (0, 2)


def test_the_arguments_of_a_search_are_checked(unchecked):
    with pytest.raises(ValueError, match="gallery's 4 rows besides the reference, got 5"):
        validate_k(5, 5, exclude_reference=True)
    assert validate_k(np.int64(5), 5, exclude_reference=False) == 5
    with pytest.raises(ValueError, match="reference_ids must lie between 0 and 4, got 5"):
        validate_reference_ids(np.array([0, 5, 6]), 5)
