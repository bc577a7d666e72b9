import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.serving.found import SHOWN, Found

SCHEMA = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))


def found(count):
    labels = np.tile([[1, -1]], (count, 1))
    labels[1:, 0] = 0
    return Found(
        schema=SCHEMA,
        rows=np.arange(count),
        distances=np.arange(count) / 8,
        names=[f"{row}.jpg" for row in range(count)],
        labels=labels,
        predicted=np.zeros((count, 2), int),
        probabilities=np.ones((count, 2)),
        wanted=np.array([1, -1]),
        unwanted=np.zeros(4, bool),
        milliseconds=1.0,
    )


def test_it_lists_the_garments_at_a_prompt():
    """It was pages of arrays."""
    assert repr(found(2)) == (
        "2 garments, nearest first:\n"
        "  0.0000  0.jpg  color: red\n"
        "  0.1250  1.jpg  color: blue (not as asked: color)"
    )


def test_it_lists_some_of_many_and_says_where_there_is_none():
    lines = repr(found(SHOWN + 1)).splitlines()
    assert len(lines) == SHOWN + 2
    assert lines[-1] == "  ..."
    assert repr(found(0)) == "0 garments, nearest first"
