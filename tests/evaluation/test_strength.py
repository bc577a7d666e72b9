import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.strength import choose_strength

SCHEMA = AttributeSchema(("color",), (("blue", "red"),))
SEARCH = {"normalize": "none", "exclude_query": False, "progress": False}


def test_the_strength_that_finds_most_is_chosen():
    labels = np.array([[0], [0], [0], [1], [1], [1]])
    features = np.array([0.0, 0.1, 0.2, 2.0, 2.1, 2.2], np.float32).reshape(6, 1, 1)
    memory = np.array([-0.5, 0.5], np.float32).reshape(2, 1, 1)  # half of what lies between the colours
    strength, rates = choose_strength(
        features, labels, memory, generate_queries(labels, SCHEMA), candidates=(0.25, 2.0, 3.0), **SEARCH
    )
    assert strength == 2.0
    assert rates == {"0.25": 0.0, "2": 1.0, "3": 1.0}


def test_without_a_query_there_is_nothing_to_choose_by():
    labels = np.array([[0], [0]])
    with pytest.raises(DataError, match="protocol.strength=validation has no query"):
        choose_strength(
            np.zeros((2, 1, 1), np.float32),
            labels,
            np.zeros((2, 1, 1), np.float32),
            generate_queries(labels, SCHEMA),
            **SEARCH,
        )
