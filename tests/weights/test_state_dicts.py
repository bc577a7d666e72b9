import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.state_dicts import (
    Hint,
    check_no_other_tensors,
    layout_shapes,
    select_tensors,
    strip_wrappers,
)

SHAPES = {"weight": (3, 2), "bias": (3,)}


@pytest.fixture
def tensors():
    return {"weight": np.arange(6.0, dtype=np.float32).reshape(3, 2), "bias": np.ones(3, np.float16)}


def test_shapes_are_in_the_order_of_the_layout():
    def layout(params):
        return {"z": params["kernel"].T[:1], "a": params["bias"]}

    for params in (
        {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32), "bias": np.ones(3)},
    ):
        shapes = layout_shapes(layout, params)
        assert list(shapes.items()) == [("z", (1, 2)), ("a", (3,))]


def test_what_fits_is_float32_to_the_bit(tensors):
    found = select_tensors({**tensors, "other": np.array("?")}, SHAPES, kind="layer")
    assert list(found) == list(SHAPES)
    assert found["weight"] is tensors["weight"]  # no copy of what is float32 already
    np.testing.assert_array_equal(found["bias"], np.ones(3, np.float32), strict=True)


def test_all_names_are_looked_at_before_shapes_and_all_shapes_before_dtypes(tensors):
    tensors["weight"] = tensors["weight"].T.astype(int)
    with pytest.raises(WeightsError, match=r"do not fit the model:\n  weight has shape \(2, 3\); .*\n!$"):
        select_tensors(tensors, SHAPES, kind="layer", hint=Hint("!"))
    del tensors["bias"]
    with pytest.raises(WeightsError, match="^1 of 2 tensors is missing:\n  bias$"):
        select_tensors(tensors, SHAPES, kind="layer")


def test_the_most_frequent_prefix_is_taken(tensors):
    prefixed = {f"a.{name}": tensor for name, tensor in tensors.items()} | {"bias": np.zeros(3)}
    found = select_tensors(prefixed, SHAPES, kind="layer", prefixes=("", "a.", "b."))
    assert found["bias"].tolist() == [1, 1, 1]
    with pytest.raises(WeightsError, match="^1 of 2 tensors is missing:\n  weight"):
        select_tensors(prefixed, SHAPES, kind="layer")


def test_another_kind(tensors):
    with pytest.raises(
        WeightsError,
        match="no layer: 2 of 2 tensors are missing, for example weight; the file has conv.bias$",
    ):
        select_tensors({"conv.bias": np.ones(2)}, SHAPES, kind="layer")


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.complex64])
def test_dtypes_that_are_no_weights(dtype, tensors):
    tensors["bias"] = tensors["bias"].astype(dtype)
    with pytest.raises(WeightsError, match=f"must be floating-point numbers, but\n  bias: {np.dtype(dtype)}"):
        select_tensors(tensors, SHAPES, kind="layer")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite(value, tensors):
    tensors["bias"] = np.array([0, value, 0])
    with pytest.raises(WeightsError, match="^bias has numbers that are not finite"):
        select_tensors(tensors, SHAPES, kind="layer")


def test_names_that_are_left_over(tensors):
    check_no_other_tensors(tensors, ["weight", "bias", "more"], kind="layer")
    with pytest.raises(WeightsError, match="^1 tensor has no place in a layer:\n  bias$"):
        check_no_other_tensors(tensors, ["weight"], kind="layer")
    many = {f"other.{number}": np.ones(1) for number in range(6)}
    with pytest.raises(
        WeightsError, match=r"(?s)^6 tensors have no place in a layer:\n  other.0\n.*3\n  \.\.\.$"
    ):
        check_no_other_tensors({**tensors, **many}, list(SHAPES), kind="layer")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["module.a", "module.b"], ["a", "b"]),
        (["model._orig_mod.ema.a", "model._orig_mod.ema.b"], ["a", "b"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["model.a", "ema.a"], ["model.a", "ema.a"]),
        (["model.module.a", "model.b"], ["module.a", "b"]),
        (["models.a"], ["models.a"]),
        (["n_averaged", "module.a", "module.b"], ["a", "b"]),
        (["n_averaged", "a"], ["n_averaged", "a"]),
        (["n_averaged"], ["n_averaged"]),
        ([], []),
    ],
)
def test_wrappers_are_taken_off_where_all_tensors_have_them(names, expected):
    assert list(strip_wrappers(dict.fromkeys(names, 0))) == expected
