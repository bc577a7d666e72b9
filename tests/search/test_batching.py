import numpy as np
import pytest

from gradrev_jax.search.batching import (
    CHUNK_BYTES,
    checked_edits,
    checked_k,
    checked_rows,
    references_at_once,
    without,
)


def test_many_references_are_taken_in_equal_chunks():
    assert references_at_once(200, 1) == 256
    assert references_at_once(1581, 1) == 800
    assert references_at_once(1581, CHUNK_BYTES // 300) == 272
    assert references_at_once(1025, 1) == 528


def test_the_excluded_row_goes_or_else_the_last():
    indices, distances = without(
        np.array([[4, 2, 9], [4, 2, 9], [4, 2, 9]]), np.array([[0.0, 1, 2]] * 3), np.array([2, 7, 9])
    )
    assert indices.tolist() == [[4, 9], [4, 2], [4, 2]]
    assert distances.tolist() == [[0, 2], [0, 1], [0, 1]]
    assert without(np.zeros((0, 3), int), np.zeros((0, 3)), np.zeros(0, int))[0].shape == (0, 2)


def test_what_is_asked_for_is_checked(unchecked):
    with pytest.raises(ValueError, match="rows, the query excluded, of 5, got 5"):
        checked_k(5, 5, exclude_reference=True)
    checked_k(5, 5, exclude_reference=False)
    with pytest.raises(ValueError, match="between 0 and 4, got 5"):
        checked_rows(np.array([0, 5, 6]), 5)
    with pytest.raises(ValueError, match=r"2 queries need indicators \[2, 3\], got \(2, 4\)"):
        checked_edits(np.zeros((2, 4)), 1.0, num_queries=2, num_values=3, dtype=np.dtype("float32"))
