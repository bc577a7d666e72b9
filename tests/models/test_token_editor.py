import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.models.token_editor import TokenEditor

SCHEMA = AttributeSchema(("color", "size", "fit"), (("blue", "green", "red"), ("s", "m"), ("slim", "wide")))
EDITOR = TokenEditor(SCHEMA, width=8, heads=2, layers=2)
D = 5
INDICATORS = np.array(
    [
        [-1, 1, 0, 0, 0, 0, 0],  # a swap
        [0, 0, 0, 0, 1, 0, 0],  # an addition
        [0, 0, -1, 0, 0, 0, 0],  # a removal
        [0, 0, 0, 0, 0, 0, 0],  # no change
        [1, 0, -1, -1, 1, 0, 1],  # all attributes at once
    ],
    np.int8,
)
UNCHANGED = 3


@pytest.fixture
def features(rng):
    return jnp.asarray(3 * rng.normal(size=(5, 3, D)), jnp.float32)


@pytest.fixture
def memory(rng):
    """Prototypes with entries outside their blocks, too."""
    return jnp.asarray(2 * rng.normal(size=(7, 3, D)), jnp.float32)


def random_params(editor, d, seed=1):
    """Random everywhere: the last layer would start at 0."""
    n, j = editor.schema.num_attributes, editor.schema.num_values
    shapes = jax.eval_shape(
        editor.init, jax.random.key(0), jnp.zeros((1, n, d)), jnp.zeros((1, j)), jnp.zeros((j, n, d))
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32), shapes)


@functools.cache
def params():
    return random_params(EDITOR, D)


@functools.cache
def compiled(editor):
    return jax.jit(editor.apply)


def edit(params, features, indicators, memory, editor=EDITOR):
    return np.asarray(compiled(editor)(params, features, jnp.asarray(indicators), memory))


def layer_norm(x, p):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def block(tokens, others, p):
    """One block of one image; tokens attend to a list of others, one head and one token at a time."""
    read = [layer_norm(t, p["tokens_norm"]) for t in tokens]
    seen = read if others is None else [layer_norm(t, p["others_norm"]) for t in others]
    attention, out = p["attention"], []
    for token, q in zip(tokens, read, strict=True):
        heads = []
        for h in range(attention["query"]["kernel"].shape[1]):
            query, keys, values = (
                [x @ attention[part]["kernel"][:, h] + attention[part]["bias"][h] for x in xs]
                for part, xs in (("query", [q]), ("key", seen), ("value", seen))
            )
            scores = np.array([query[0] @ key / np.sqrt(len(key)) for key in keys])
            weights = np.exp(scores) / np.exp(scores).sum()
            heads.append(sum(w * value for w, value in zip(weights, values, strict=True)))
        new = token + attention["out"]["bias"]
        new = new + sum(head @ attention["out"]["kernel"][h] for h, head in enumerate(heads))
        hidden = gelu(dense(layer_norm(new, p["mlp_norm"]), p["mlp_hidden"]))
        out.append(new + dense(hidden, p["mlp_out"]))
    return out


def slow_edit(params, feature, indicator, memory, schema=SCHEMA, layers=2):
    """The edit of one image, [N, d], in float64, token by token."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]
    feature, memory = np.asarray(feature, np.float64), np.asarray(memory, np.float64)
    edited = feature + sum(i * m for i, m in zip(indicator, memory, strict=True))
    strength = np.abs(indicator).max()
    if not strength:
        return edited
    tokens, others, sizes = [], [], []
    for n in range(schema.num_attributes):
        values = range(schema.offsets[n], schema.offsets[n] + schema.sizes[n])
        sizes.append(np.sqrt(np.mean([memory[v, n] ** 2 for v in values])))
        token = feature[n] / sizes[n] @ p["features"]["kernel"][n] + p["features"]["bias"][n]
        tokens.append(token + sum(abs(indicator[v]) * p["values"][int(indicator[v] < 0), v] for v in values))
    for sign in (1, -1):
        for v, n in enumerate(schema.attribute_of):
            if indicator[v] * sign > 0:
                read = memory[v, n] / sizes[n] @ p["prototypes"]["kernel"][n] + p["prototypes"]["bias"][n]
                others.append(read + p["values"][int(sign < 0), v])
    for k in range(layers):
        tokens = block(tokens, None, p[f"change_{k}"])
    for k in range(layers):
        tokens = block(tokens, others, p[f"memory_{k}"])
    residual = [
        layer_norm(t, p["norm"]) @ p["edit"]["kernel"][n] + p["edit"]["bias"][n] for n, t in enumerate(tokens)
    ]
    return edited + np.stack(residual) * np.array(sizes)[:, None]


@pytest.mark.long
def test_the_edit_is_that_of_one_token_at_a_time(features, memory):
    edited = edit(params(), features, INDICATORS, memory)
    slow = np.stack(
        [slow_edit(params(), f, i, memory) for f, i in zip(features, INDICATORS.tolist(), strict=True)]
    )
    np.testing.assert_allclose(edited, slow, rtol=1e-5, atol=1e-5 * np.abs(slow).max())
    assert np.abs(slow - manipulate(features, INDICATORS, memory))[np.arange(5) != UNCHANGED].min() > 1e-3


@pytest.mark.long
def test_an_editor_that_has_not_been_trained_edits_by_eq_7(features, memory):
    start = jax.jit(EDITOR.init)(jax.random.key(0), features, INDICATORS, memory)
    expected = manipulate(features, INDICATORS, memory)
    np.testing.assert_array_equal(edit(start, features, INDICATORS, memory), expected)


def test_no_change_leaves_features_exactly_as_they_are(features, memory):
    edited = edit(params(), features, np.zeros_like(INDICATORS), memory)
    np.testing.assert_array_equal(edited, features)


@pytest.mark.long
def test_an_image_without_a_change_trains_nothing(features, memory):
    def total(params, memory, indicators):
        return (EDITOR.apply(params, features, indicators, memory) ** 2).sum()

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(params(), memory, jnp.zeros(INDICATORS.shape))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


def test_a_strength_moves_features_that_many_times_as_far(features, memory):
    once = edit(params(), features, INDICATORS, memory) - np.asarray(features)
    for strength in (0.3, 2.5):
        moved = edit(params(), features, np.float32(strength) * INDICATORS, memory) - np.asarray(features)
        np.testing.assert_allclose(moved, strength * once, rtol=1e-4, atol=1e-4)


def test_features_of_another_unit_are_edited_alike(features, memory):
    edited = edit(params(), features, INDICATORS, memory)
    scaled = edit(params(), 1000 * features, INDICATORS, 1000 * memory)
    np.testing.assert_allclose(scaled, 1000 * edited, rtol=1e-4, atol=1e-1)


def test_images_are_edited_independently(features, memory):
    whole = edit(params(), features, INDICATORS, memory)
    rows = np.array([4, 0, 4])
    np.testing.assert_allclose(
        edit(params(), features[rows], INDICATORS[rows], memory), whole[rows], rtol=1e-5, atol=1e-5
    )


def test_prototypes_of_other_values_are_not_read(features, memory):
    """Their signs change nothing; their sizes say how large features of the attribute are."""
    other = memory.at[np.array([0, 5])].multiply(
        -1.0
    )  # blue and slim, which the three images below do not change
    rows = np.array([1, 2, 3])
    np.testing.assert_array_equal(
        edit(params(), features[rows], INDICATORS[rows], memory),
        edit(params(), features[rows], INDICATORS[rows], other),
    )


def test_what_lies_outside_the_blocks_is_read_by_eq_7_alone(features, memory):
    blocks = jnp.where(SCHEMA.membership[:, :, None] > 0, memory, 0)
    added = edit(params(), features, INDICATORS, memory) - edit(params(), features, INDICATORS, blocks)
    np.testing.assert_allclose(
        added, np.einsum("bv,vnd->bnd", INDICATORS, memory - blocks), rtol=1e-4, atol=1e-5
    )


def test_the_order_of_attributes_does_not_matter(features, memory):
    order = [2, 0, 1]
    values = np.concatenate([np.flatnonzero(SCHEMA.attribute_of == n) for n in order])
    permuted = AttributeSchema(tuple(SCHEMA.names[n] for n in order), tuple(SCHEMA.values[n] for n in order))
    p = dict(params()["params"])
    for name in ("features", "prototypes", "edit"):
        p[name] = {key: leaf[np.array(order)] for key, leaf in p[name].items()}
    p["values"] = p["values"][:, values]
    edited = edit(
        {"params": p},
        features[:, np.array(order)],
        INDICATORS[:, values],
        memory[values][:, np.array(order)],
        EDITOR.clone(schema=permuted),
    )
    expected = edit(params(), features, INDICATORS, memory)[:, order]
    np.testing.assert_allclose(edited, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_one_attribute_of_one_value_can_be_added_and_removed(rng):
    schema = AttributeSchema(("color",), (("blue",),))
    editor = TokenEditor(schema, width=4, heads=1, layers=1)
    features = jnp.asarray(rng.normal(size=(3, 1, 2)), jnp.float32)
    memory = jnp.asarray(rng.normal(size=(1, 1, 2)), jnp.float32)
    own, indicators = random_params(editor, 2), np.array([[1], [-1], [0]], np.int8)
    slow = [
        slow_edit(own, f, i, memory, schema, 1) for f, i in zip(features, indicators.tolist(), strict=True)
    ]
    np.testing.assert_allclose(edit(own, features, indicators, memory, editor), slow, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_a_memory_of_zeros_gives_finite_edits_and_gradients(features, memory):
    def total(params, features, memory):
        return (EDITOR.apply(params, features, INDICATORS, memory) ** 2).sum()

    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(
        params(), 0 * features, 0 * memory
    )
    assert value > 0
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_bfloat16_is_near_float32_and_returns_it(features, memory):
    plain = edit(params(), features, INDICATORS, memory)
    rounded = edit(params(), features, INDICATORS, memory, EDITOR.clone(dtype=jnp.bfloat16))
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded[UNCHANGED], plain[UNCHANGED])
    assert 1e-4 < np.abs(rounded - plain).max() < 0.05 * np.abs(plain - np.asarray(features)).max()


def test_bad_arguments_are_named(unchecked, features, memory):
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 8 and 3"):
        EDITOR.clone(heads=3).init(jax.random.key(0), features, INDICATORS, memory)
    with pytest.raises(ValueError, match="disagree"):
        EDITOR.init(jax.random.key(0), features, INDICATORS[:, :6], memory[:6, :, :4])
