import pytest

from gradrev_jax.models.variables import trainable, with_statistics

VARIABLES = {
    "encoder": {"params": {"a": 1, "b": {"c": 2}}, "batch_stats": {"b": {"mean": 3}}},
    "memory": 4,
}


def test_parameters_are_what_is_left_without_statistics():
    assert trainable(VARIABLES) == {"encoder": {"params": {"a": 1, "b": {"c": 2}}}, "memory": 4}
    assert trainable({"params": {"a": 1}}) == {"params": {"a": 1}}
    assert trainable(5) == 5


def test_statistics_are_put_back():
    changed = {"encoder": {"params": {"a": 10, "b": {"c": 20}}}, "memory": 40}
    assert with_statistics(changed, VARIABLES) == {
        "encoder": {"params": {"a": 10, "b": {"c": 20}}, "batch_stats": {"b": {"mean": 3}}},
        "memory": 40,
    }


@pytest.mark.parametrize("tree", [VARIABLES, {"params": {}}, {"params": {"a": {}}}])
def test_both_together_change_nothing(tree):
    assert with_statistics(trainable(tree), tree) == tree
