import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.edit_losses import EditLosses, edit_losses
from gradrev_jax.core.missing_labels import class_labels, classes_of
from gradrev_jax.models.token_editor import TokenEditor

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
LABELS = np.array(
    [
        [[0, 1], [1, -1], [2, 0], [0, 0]],
        [[1, 1], [1, 0], [0, 0], [0, 1]],
        [[2, 0], [0, 1], [1, -1], [1, 1]],
    ],
    np.int32,
)
INDICATORS = np.array([[-1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, -1, 0, 0], [0, 0, 0, -1, 1]], np.int8)


@pytest.fixture(params=["ignore", "value"])
def missing(request):
    return request.param


@pytest.fixture
def arrays(rng):
    return {
        "features": rng.normal(size=(3, 4, 2, 5)),
        "edited": rng.normal(size=(4, 2, 5)),
        "memory": rng.normal(size=(5, 2, 5)),
        "kernel": rng.normal(size=(5, 7)),
    }


def classifier(kernel, missing):
    classes = classes_of(SCHEMA, missing).num_values
    return lambda features: features @ kernel[:, :classes]


def losses(arrays, labels=LABELS, missing="ignore", **changed):
    a = {name: jnp.asarray(x) for name, x in {**arrays, **changed}.items()}
    classify = classifier(a["kernel"], missing)
    return edit_losses(
        a["features"], a["edited"], jnp.asarray(labels), a["memory"], SCHEMA, classify, missing=missing
    )


def normal(feature):
    return feature.reshape(-1) / np.linalg.norm(feature)


def slow_semi_hard(batch, rows):
    terms = []
    for a in range(len(rows)):
        to = ((batch - batch[a]) ** 2).sum(axis=1)
        negatives = [to[i] for i in range(len(rows)) if rows[i] != rows[a]]
        for p in range(len(rows)):
            if p != a and rows[p] == rows[a] and negatives:
                farther = [distance for distance in negatives if distance > to[p]]
                terms.append(max(0, to[p] - (min(farther) if farther else max(negatives)) + 0.5))
    return np.mean(terms)


def slow_losses(features, edited, labels, memory, kernel, missing):
    """All terms, image by image."""
    classes = classes_of(SCHEMA, missing)
    reference, positive, negative = features
    cross_entropies = []
    for n in range(2):
        of_attribute = []
        for feature, row in zip(edited, class_labels(labels[1], SCHEMA, missing), strict=True):
            scores = (feature[n] @ kernel)[classes.offsets[n] : classes.offsets[n] + classes.sizes[n]]
            if row[n] >= 0:
                of_attribute.append(np.log(np.exp(scores).sum()) - scores[row[n]])
        cross_entropies.append(np.mean(of_attribute))
    batch = np.stack([normal(f) for f in (*reference, *edited, *negative)])
    rows = [tuple(row) for row in labels.reshape(-1, 2).tolist()]
    margin = [
        max(0, np.linalg.norm(normal(e) - normal(p)) - np.linalg.norm(normal(e) - normal(n)) + 0.5)
        for e, p, n in zip(edited, positive, negative, strict=True)
    ]
    consistency = 0.0
    for group, group_labels in ((edited, labels[1]), (reference, labels[0]), (negative, labels[2])):
        for f, row in zip(group, group_labels, strict=True):
            made = sum(memory[SCHEMA.offsets[n] + v] for n, v in enumerate(row) if v >= 0)
            consistency += np.abs(made - f).mean() / 4
    off_block = sum(np.abs(memory[v, 1 - n]).sum() for v, n in enumerate([0, 0, 0, 1, 1]))
    return sum(cross_entropies), slow_semi_hard(batch, rows), np.mean(margin), consistency, off_block


@pytest.mark.long
def test_every_term_against_loops(arrays, missing):
    slow = slow_losses(
        *(arrays[name] for name in ("features", "edited")),
        LABELS,
        *(arrays[name] for name in ("memory", "kernel")),
        missing,
    )
    fast = losses({name: np.float32(x) for name, x in arrays.items()}, missing=missing)
    assert min(slow) > 0.1
    for name, term, expected in zip(EditLosses._fields, fast, slow, strict=True):
        np.testing.assert_allclose(term, expected, rtol=1e-5, err_msg=name)


@pytest.mark.long
def test_gradients_against_finite_differences(arrays, missing):
    with jax.enable_x64(True):
        for k in range(len(EditLosses._fields)):

            def term(edited, memory, k=k):
                return losses(arrays, missing=missing, edited=edited, memory=memory)[k]

            arguments = jnp.asarray(arrays["edited"]), jnp.asarray(arrays["memory"])
            # Steps so small that no other negative becomes the semi-hard one.
            check_grads(term, arguments, order=1, modes=["rev"], rtol=1e-4, atol=1e-6, eps=1e-6)


@pytest.mark.long
def test_an_editor_descends_the_gradient_of_finite_differences(arrays):
    """The gradient by all parameters of an editor, and by its memory, along random directions."""
    editor = TokenEditor(SCHEMA, width=8, heads=2, layers=1)
    weights = jnp.array([0.2, 1.0, 1.0, 1.0, 0.4])
    with jax.enable_x64(True):
        a = {name: jnp.asarray(x) for name, x in arrays.items()}
        shapes = jax.eval_shape(editor.init, jax.random.key(0), a["features"][0], INDICATORS, a["memory"])
        rng = np.random.default_rng(1)
        params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 4), shapes)
        editor = editor.clone(dtype=jnp.float64)
        # The size of the prototypes is a constant of the gradient: their blocks move here across it.
        direction = rng.normal(size=(5, 2, 5))
        for n in range(2):
            own = np.flatnonzero(SCHEMA.attribute_of == n)
            block = arrays["memory"][own, n]
            direction[own, n] -= block * (direction[own, n] * block).sum() / (block**2).sum()

        def total(params, along):
            memory = a["memory"] + along * direction
            edited = editor.apply(params, a["features"][0], INDICATORS, memory)
            return weights @ jnp.stack(losses(arrays, edited=edited, memory=memory))

        arguments = params, jnp.zeros(())
        check_grads(jax.jit(total), arguments, order=1, modes=["rev"], rtol=1e-4, atol=1e-6, eps=1e-6)


def test_the_order_of_triplets_does_not_matter(arrays):
    order = np.array([2, 0, 3, 1])
    plain = losses(arrays)
    moved = losses(
        arrays, LABELS[:, order], features=arrays["features"][:, order], edited=arrays["edited"][order]
    )
    np.testing.assert_allclose(moved, plain, rtol=1e-5)


def test_the_features_of_positives_count_in_the_margin_alone(arrays):
    plain = losses(arrays)
    features = arrays["features"].copy()
    features[1] += 1
    moved = losses(arrays, features=features)
    changed = [name for name, a, b in zip(EditLosses._fields, plain, moved, strict=True) if a != b]
    assert changed == ["margin"]


def test_without_a_label_there_is_no_cross_entropy_and_no_negative(arrays):
    found = losses(arrays, np.full_like(LABELS, -1))
    assert found.classification == found.semi_hard == 0
    assert all(np.isfinite(term) for term in found)


@pytest.mark.long
def test_one_attribute_of_one_value(rng):
    schema = AttributeSchema(("color",), (("blue",),))
    features, edited = jnp.asarray(rng.normal(size=(3, 1, 1, 2))), jnp.asarray(rng.normal(size=(1, 1, 2)))
    found = edit_losses(
        features, edited, np.array([[[-1]], [[0]], [[-1]]]), jnp.ones((1, 1, 2)), schema, lambda f: f[..., :1]
    )
    assert found.classification == found.off_block == 0
    assert all(np.isfinite(term) for term in found)
