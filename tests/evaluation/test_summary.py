import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.evaluation.summary import absent_values, cross_accuracy_rows
from gradrev_jax.models.inference import Encoded


def test_values_that_no_image_has_are_named():
    schema = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
    assert absent_values(np.array([[0, 1], [-1, 1], [2, -1]]), schema) == ["color: green", "size: s"]
    assert absent_values(np.array([[0, 1], [1, 0], [2, -1]]), schema) == []


def test_a_classifier_without_a_labelled_image_has_no_accuracy():
    encoded = Encoded(
        features=np.zeros((4, 2, 1)),
        own_logits=np.zeros((4, 3)),
        embeddings=np.zeros((4, 5)),
        correct=np.array([[3, 0], [1, 0]]),
        labelled=np.array([4, 0]),
        own_correct=np.zeros((4, 2), np.int8),
    )
    assert cross_accuracy_rows(encoded) == [[0.75, None], [0.25, None]]
