import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.indicators import check_indicators, describe_change, make_indicator
from gradrev_jax.core.manipulation import class_prototypes, manipulate, memory_from_sums, prototype_sums

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))


def example(count=50, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 3, dim)).astype(np.float32)
    labels = np.stack([rng.integers(-1, size, count) for size in SCHEMA.sizes], axis=1).astype(np.int32)
    return features, labels


prototypes = jax.jit(class_prototypes, static_argnums=2)


def slow_prototypes(features, labels, schema):
    memory = np.zeros((schema.num_values, *features.shape[1:]))
    for n in range(schema.num_attributes):
        for value in range(schema.sizes[n]):
            members = [f[n] for f, row in zip(features, labels, strict=True) if row[n] == value]
            if members:
                memory[schema.offsets[n] + value, n] = np.mean(members, axis=0)
    return memory


def test_prototypes_against_loops():
    features, labels = example()
    expected = slow_prototypes(features, labels, SCHEMA)
    np.testing.assert_allclose(class_prototypes(features, labels, SCHEMA), expected, atol=1e-6)
    np.testing.assert_allclose(prototypes(features, labels, SCHEMA), expected, atol=1e-6)


def test_prototypes_of_batches_add_up():
    features, labels = example()
    sums = jax.jit(prototype_sums, static_argnums=2)
    parts = [sums(features[rows], labels[rows], SCHEMA) for rows in (slice(0, 25), slice(25, None))]
    whole = jax.jit(memory_from_sums, static_argnums=1)(jax.tree.map(jnp.add, *parts), SCHEMA)
    np.testing.assert_allclose(whole, prototypes(features, labels, SCHEMA), atol=1e-6)


def test_a_value_without_images_keeps_a_zero_prototype():
    features, labels = example()
    labels[labels[:, 0] == 1, 0] = -1
    memory = prototypes(features, labels, SCHEMA)
    assert (memory[1] == 0).all()
    assert (class_prototypes(features[:0], labels[:0], SCHEMA) == 0).all()
    assert prototype_sums(features, labels, SCHEMA).counts[1] == 0


def test_prototypes_stand_in_their_own_block_only():
    memory = np.asarray(prototypes(*example(), SCHEMA))
    outside = memory * (1 - SCHEMA.membership[:, :, None])
    assert (outside == 0).all()
    assert (np.abs(memory).sum(axis=(1, 2)) > 0).all()


def test_prototype_shapes_that_disagree():
    features, labels = example()
    with pytest.raises(ValueError, match="N = 3"):
        class_prototypes(features[:, :2], labels[:, :2], SCHEMA)


def test_manipulate_against_loops():
    features, labels = example()
    memory = slow_prototypes(features, labels, SCHEMA).astype(np.float32)
    indicators = np.random.default_rng(1).integers(-1, 2, (50, 6)).astype(np.int8)
    expected = features.astype(float)
    for q in range(50):
        for value in range(6):
            expected[q] += indicators[q, value] * memory[value]
    np.testing.assert_allclose(manipulate(features, indicators, memory), expected, atol=1e-5)
    # No batch axis, and two of them.
    np.testing.assert_allclose(manipulate(features[0], indicators[0], memory), expected[0], atol=1e-5)
    grid = manipulate(features.reshape(5, 10, 3, 4), indicators.reshape(5, 10, 6), memory)
    np.testing.assert_allclose(grid.reshape(50, 3, 4), expected, atol=1e-5)


def test_a_strength_is_a_scaled_indicator():
    features, labels = example()
    memory = prototypes(features, labels, SCHEMA)
    indicator = make_indicator(SCHEMA, np.array([0, 0, 0]), {"color": "red"})
    full = manipulate(features[0], indicator, memory) - features[0]
    half = manipulate(features[0], 0.5 * indicator, memory) - features[0]
    np.testing.assert_allclose(half, 0.5 * full, atol=1e-6)
    assert (np.asarray(full)[1:] == 0).all(), "other attributes' features must not move"


def test_manipulate_keeps_the_dtype_and_names_shapes(unchecked):
    features, labels = example()
    memory = prototypes(features, labels, SCHEMA)
    assert manipulate(features.astype(jnp.bfloat16), np.zeros((50, 6)), memory).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"\(50, 3, 4\), \(50, 6\) and \(5, 3, 4\)"):
        manipulate(features, np.zeros((50, 6)), memory[:5])


def test_indicators_from_words_and_back():
    swap = make_indicator(SCHEMA, np.array([0, 0, 0]), {"color": "red"})
    assert swap.tolist() == [-1, 0, 1, 0, 0, 0]
    assert describe_change(swap, SCHEMA) == "color: blue -> red"
    add = make_indicator(SCHEMA, np.array([0, -1, 0]), {"size": "m"})
    assert add.tolist() == [0, 0, 0, 0, 1, 0]
    assert describe_change(add, SCHEMA) == "+ size: m"
    remove = make_indicator(SCHEMA, np.array([0, 1, 0]), {"size": None})
    assert remove.tolist() == [0, 0, 0, 0, -1, 0]
    assert describe_change(remove, SCHEMA) == "- size: m"
    both = make_indicator(SCHEMA, np.array([0, 1, 0]), {"color": "green", "size": None})
    assert describe_change(both, SCHEMA) == "color: blue -> green, - size: m"


def test_indicators_that_change_nothing_or_name_the_unknown():
    with pytest.raises(ValueError, match="color is blue already"):
        make_indicator(SCHEMA, np.array([0, 0, 0]), {"color": "blue"})
    with pytest.raises(ValueError, match="size is not labelled already"):
        make_indicator(SCHEMA, np.array([0, -1, 0]), {"size": None})
    with pytest.raises(ValueError, match="did you mean 'color'"):
        make_indicator(SCHEMA, np.array([0, -1, 0]), {"colour": "red"})
    with pytest.raises(ValueError, match="did you mean 'color'"):
        make_indicator(SCHEMA, np.array([0, -1, 0]), {"colour": None})


def test_check_indicators():
    check_indicators(np.array([[-1, 0, 1, 0, 1, 0]]), SCHEMA)
    with pytest.raises(ValueError, match="row 1 has 2 values of attribute 'color' added"):
        check_indicators(np.array([[0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0]]), SCHEMA)
    with pytest.raises(ValueError, match="row 0 has 2 values of attribute 'size' removed"):
        check_indicators(np.array([[0, 0, 0, -1, -1, 0]]), SCHEMA)
    with pytest.raises(ValueError, match=r"got \[2\]"):
        check_indicators(np.array([[2, 0, 0, 0, 0, 0]]), SCHEMA)
    with pytest.raises(ValueError, match="need 6 columns"):
        check_indicators(np.array([[1, 0]]), SCHEMA)


@pytest.mark.parametrize("bad", [-2, 3])
def test_a_label_that_is_no_value_moves_no_prototype(bad):
    features, labels = example()
    labels[7, 0] = bad
    with pytest.raises(ValueError, match=f"label {bad} of row 7 is outside .* of attribute 'color'"):
        class_prototypes(features, labels, SCHEMA)
    masked = labels.copy()
    masked[7, 0] = -1
    np.testing.assert_array_equal(prototypes(features, labels, SCHEMA), prototypes(features, masked, SCHEMA))


@pytest.mark.parametrize("extreme", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_prototype(extreme):
    features, labels = example()
    labels[labels[:, 0] == 1, 0] = 0
    labels[7] = [1, -1, -1]
    features[7] = extreme
    memory = np.asarray(prototypes(features, labels, SCHEMA))
    finite = np.isfinite(memory).all(axis=2)
    assert np.argwhere(~finite).tolist() == [[1, 0]]


def test_features_that_are_no_rows_of_attributes(unchecked):
    _, labels = example()
    with pytest.raises(ValueError, match=r"features must be \[M, N, d\] .* got \(50, 3\) and \(50, 3\)"):
        class_prototypes(np.zeros((50, 3), np.float32), labels, SCHEMA)


def test_whole_numbers_are_edited_as_float32(unchecked):
    memory = np.array([[[1, 0]], [[0, 3]]])
    edited = manipulate(np.array([[1, 0]]), np.array([0.0, 0.5]), memory)
    assert edited.dtype == jnp.float32
    assert edited.tolist() == [[1.0, 1.5]]


def test_words_of_labels_and_indicators_that_are_none():
    with pytest.raises(ValueError, match="label -2 of row 0 is outside"):
        make_indicator(SCHEMA, np.array([-2, 0, 0]), {"color": "red"})
    with pytest.raises(ValueError, match="row 0 has 2 values of attribute 'color' added"):
        describe_change(np.array([1, 0, 1, 0, 0, 0]), SCHEMA)
    with pytest.raises(ValueError, match=r"indicators need 6 columns \(values\), got \(5,\)"):
        describe_change(np.array([1, 0, 0, 0, 0]), SCHEMA)


def test_the_mean_of_very_many_images_is_as_precise_as_that_of_few():
    """One float32 after the other, the error of the mean would be a hundredth of it."""
    schema = AttributeSchema(("a",), (("x", "y"),))
    images = 1_000_001
    labels = np.zeros((images, 1), np.int32)
    labels[-1] = 1
    features = np.full((images, 1, 1), 0.1, np.float32)
    features[-1] = 3
    np.testing.assert_allclose(class_prototypes(features, labels, schema)[:, 0, 0], [0.1, 3], rtol=2e-5)


def test_labels_of_several_items_at_once_are_refused(unchecked):
    schema = AttributeSchema(("a",), (("x", "y"),))
    with pytest.raises(ValueError, match=r"labels must be those of one item, \[1\], got \(2, 1\)"):
        make_indicator(schema, np.array([[0], [1]]), {"a": "y"})
    with pytest.raises(ValueError, match=r"labels must be those of one row, \[1\], got \(2, 1\)"):
        schema.words(np.array([[0], [1]]))


def test_prototypes_of_a_shard():
    """Found by use: the carry of their sum did not vary over the devices that the features vary over."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("d",))
    split, schema = jax.P("d"), AttributeSchema(("only",), (("a", "b"),))
    features, labels = jnp.ones((4, 1, 2)), jnp.zeros((4, 1), int)

    def of_shard(features, labels):
        return jax.lax.pmean(class_prototypes(features, labels, schema), "d")

    found = jax.jit(jax.shard_map(of_shard, mesh=mesh, in_specs=(split, split), out_specs=jax.P()))
    np.testing.assert_array_equal(found(features, labels), class_prototypes(features, labels, schema))
