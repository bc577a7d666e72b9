import numpy as np
import pytest

from gradrev_jax.search.arguments import validate_k, validate_reference_ids


def test_the_arguments_of_a_search_are_checked(unchecked):
    with pytest.raises(ValueError, match="gallery's 4 rows besides the reference, got 5"):
        validate_k(5, 5, exclude_reference=True)
    assert validate_k(np.int64(5), 5, exclude_reference=False) == 5
    with pytest.raises(ValueError, match="reference_ids must lie between 0 and 4, got 5"):
        validate_reference_ids(np.array([0, 5, 6]), 5)
