import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.replacement import edited_attributes, replace_blocks

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
DIM, REST = 4, 2


def example(rng, batch=(5, 3), soft=True):
    """Features with a rest of two blocks, indicators with fractions, a memory and absent blocks."""
    features = rng.normal(size=(*batch, 3 + REST, DIM))
    indicators = rng.integers(-2, 3, (*batch, SCHEMA.num_values)) / 2
    indicators[rng.random(indicators.shape) < 0.4] = 0
    memory = rng.normal(size=(SCHEMA.num_values, 3 + REST, DIM))
    if not soft:
        memory *= np.pad(SCHEMA.membership, ((0, 0), (0, REST)))[:, :, None]
    absent = rng.normal(size=(3, DIM))
    return tuple(x.astype(np.float32) for x in (features, indicators, memory, absent))


def slow(features, indicator, memory, strength, absent):
    """One item: what is put into each block, value by value."""
    edited = np.array(features, np.float64)
    for n in range(3):
        own = indicator[SCHEMA.offsets[n] : SCHEMA.offsets[n] + SCHEMA.sizes[n]]
        if any(own):
            edited[n] = 0 if max(own) > 0 or absent is None else absent[n]
    for value, entry in zip(memory, indicator, strict=True):
        if entry > 0:
            edited += strength * entry * value.astype(np.float64)
    return edited


@pytest.mark.parametrize("strength", [1.0, 0.0, -1.5])
@pytest.mark.parametrize("has_absent", [False, True])
def test_against_loops(rng, has_absent, strength):
    features, indicators, memory, absent = example(rng)
    absent = absent if has_absent else None
    found = replace_blocks(
        features, indicators, memory, SCHEMA.attribute_of, strength=strength, absent=absent
    )
    assert found.dtype == jnp.float32
    for row in np.ndindex(indicators.shape[:-1]):
        expected = slow(features[row], indicators[row], memory, strength, absent)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)


def test_a_single_item_without_other_blocks_and_traced_attributes(rng):
    features, indicators, memory, absent = example(rng)
    arguments = features[0, 0, :3], indicators[0, 0], memory[:, :3], SCHEMA.attribute_of
    found = jax.jit(replace_blocks)(*arguments, absent=absent)
    np.testing.assert_allclose(found, slow(*arguments[:3], 1, absent), rtol=1e-5, atol=1e-6)


def test_a_swap_of_features_that_are_their_prototypes_is_that_of_eq_7(rng):
    """Beyond that the edits differ: this one forgets how the image differs from its prototype."""
    _, _, memory, _ = example(rng, soft=False)
    features, swap = memory[1] + memory[3], np.array([0, -1, 1, 0, 0, 0])
    expected = manipulate(features, swap, memory)
    np.testing.assert_allclose(
        replace_blocks(features, swap, memory, SCHEMA.attribute_of), expected, atol=1e-6
    )


def test_what_is_taken_out_may_be_anything(rng):
    features, _, memory, _ = example(rng, batch=())
    features[0] = np.nan
    swap = np.array([-1, 1, 0, 0, 0, 0])

    def total(features):
        return replace_blocks(features, swap, memory, SCHEMA.attribute_of).sum()

    assert np.isfinite(total(features))
    gradient = jax.grad(total)(jnp.asarray(features))
    np.testing.assert_array_equal(gradient[0], 0)
    np.testing.assert_array_equal(gradient[1:], 1)


def test_gradients_against_closed_forms(rng):
    features, indicators, memory, absent = example(rng, batch=(6,))
    weights = rng.normal(size=features.shape).astype(np.float32)

    def loss(features, memory, absent, strength):
        edited = replace_blocks(
            features, indicators, memory, SCHEMA.attribute_of, strength=strength, absent=absent
        )
        return (weights * edited).sum()

    found = jax.grad(loss, argnums=(0, 1, 2, 3))(features, memory, absent, 0.7)
    added = np.maximum(indicators, 0)
    changed, emptied = edited_attributes(indicators, SCHEMA.membership)
    kept = 1.0 - np.pad(changed, ((0, 0), (0, REST)))
    np.testing.assert_allclose(found[0], weights * kept[..., None], rtol=1e-6)
    np.testing.assert_allclose(found[1], 0.7 * np.einsum("bv,bnd->vnd", added, weights), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found[2], np.einsum("bn,bnd->nd", emptied, weights[:, :3]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(found[3], np.einsum("bv,vnd,bnd->", added, memory, weights), rtol=1e-4)


def test_integers_become_floating_point(unchecked):
    memory = np.array([[[1, 0]], [[0, 1]]])
    found = replace_blocks(np.array([[3, 4]]), np.array([-1, 1]), memory, np.array([0, 0]))
    assert found.dtype == jnp.float32
    assert found.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((2, 3, DIM))}, r"disagree; got \(2, 3, 4\)"),
        ({"indicator": np.zeros(6)}, "disagree"),
        ({"memory": np.zeros((6, DIM))}, "disagree"),
        ({"attribute_of": np.zeros(5, int)}, r"disagree; .* \(5,\)"),
        ({"absent": np.zeros((3, 2))}, r"absent must be \[N, 4\] with N <= 5, got \(3, 2\)"),
        ({"absent": np.zeros((6, DIM))}, "absent must be"),
    ],
)
def test_shapes_that_disagree(unchecked, change, message):
    arguments = {
        "features": np.zeros((2, 5, DIM)),
        "indicator": np.zeros((2, 6)),
        "memory": np.zeros((6, 5, DIM)),
        "attribute_of": SCHEMA.attribute_of,
    }
    with pytest.raises(ValueError, match=message):
        replace_blocks(**arguments | change)


def test_each_edit_may_have_a_strength_of_its_own(unchecked):
    """With as many edits as values, strengths of edits were taken for those of values."""
    memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    features, indicator, attribute_of = np.zeros((2, 1, 2)), np.array([[1, 0], [1, 0]]), np.array([0, 0])
    found = replace_blocks(features, indicator, memory, attribute_of, strength=np.array([1.0, 10.0]))
    assert found.tolist() == [[[1, 0]], [[10, 0]]]
    with pytest.raises(
        ValueError, match=r"strength must be one number or one of each edit, \(2,\), got \(3,\)"
    ):
        replace_blocks(features, indicator, memory, attribute_of, strength=np.ones(3))


@pytest.mark.parametrize("edit", ["add", "replace"])
def test_a_strength_is_not_rounded_to_a_memory_of_half_precision(edit):
    memory, indicator = jnp.asarray([[[1.0, 0.0]], [[0.0, 1.0]]], jnp.bfloat16), np.array([1, 0])
    features = np.zeros((1, 2), np.float32)
    if edit == "add":
        found = manipulate(features, 0.3 * indicator, memory)
    else:
        found = replace_blocks(features, indicator, memory, np.array([0, 0]), strength=0.3)
    assert found.dtype == np.float32
    assert found[0, 0] == np.float32(0.3)
