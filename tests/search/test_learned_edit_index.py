import numpy as np
import pytest

from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.search import learned_edit_index
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.learned_edit_index import LearnedEditIndex

J, P, D = 5, 2, 3


def turn(params, features, indicators):
    """An edit that no sum of prototypes is: features times factors that the change decides."""
    return features * (1 + indicators @ params)[:, None, :]


@pytest.fixture
def gallery(rng):
    features = rng.normal(size=(40, P, D)).astype(np.float32)
    features[7] = features[23] = features[11]  # ties
    return features


@pytest.fixture
def edit(rng):
    return LearnedEdit(turn, rng.normal(size=(J, D)).astype(np.float32))


def ask(rng, count, size):
    reference = rng.integers(0, size, count)
    indicators = rng.integers(-1, 2, (count, J)).astype(np.int32)
    indicators[::5] = 0  # these ask for nothing
    return reference, indicators


def slow(gallery, edit, reference, indicators, k, *, normalize, weights, strength, exclude):
    """Every distance in float64, one query after the other; sorted by distance, then by row."""

    def compared(blocks):
        scaled = blocks.astype(np.float64)
        w = np.ones(P) if weights is None else weights / np.sqrt(np.mean(np.square(weights)))
        if normalize == "attribute":
            scaled = scaled / np.linalg.norm(scaled, axis=-1, keepdims=True) / np.sqrt(P)
        flat = (scaled * w[:, None]).reshape(-1)
        return flat / np.linalg.norm(flat) if normalize == "global" else flat

    rows = np.stack([compared(blocks) for blocks in gallery])
    found = []
    for row, indicator in zip(reference, indicators, strict=True):
        feature = gallery[row].astype(np.float64)
        if indicator.any():
            edited = feature * (1 + indicator @ edit.params.astype(np.float64))[None]
            feature = (1 - strength) * feature + strength * edited
        distances = np.linalg.norm(rows - compared(feature), axis=1).round(6)  # ties of equal rows are exact
        order = [i for i in np.lexsort((np.arange(len(rows)), distances)) if not (exclude and i == row)]
        found.append(order[:k])
    return np.array(found)


@pytest.mark.long
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize(
    ("normalize", "weights", "strength"),
    [("global", None, 1.0), ("none", None, 0.5), ("attribute", np.array([2.0, 1.0]), 1.5)],
)
def test_the_neighbours_are_those_of_a_slow_search(rng, gallery, edit, normalize, weights, strength, exclude):
    reference, indicators = ask(rng, 30, len(gallery))
    reference[:3] = 11, 7, 23
    index = LearnedEditIndex.build(gallery, edit, normalize, weights)
    found = index.search(
        reference_ids=reference, indicators=indicators, k=6, strength=strength, exclude_reference=exclude
    )
    expected = slow(
        gallery,
        edit,
        reference,
        indicators,
        6,
        normalize=normalize,
        weights=weights,
        strength=strength,
        exclude=exclude,
    )
    np.testing.assert_array_equal(found.indices, expected)
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_equal_rows_stand_in_their_order_and_the_reference_alone_is_left_out(gallery, edit):
    index = LearnedEditIndex.build(gallery, edit)
    asked = {"reference_ids": np.array([11]), "indicators": np.zeros((1, J), int), "k": 3}
    assert index.search(**asked).indices[0].tolist() == [7, 11, 23]
    assert index.search(**asked, exclude_reference=True).indices[0, :2].tolist() == [7, 23]


@pytest.mark.long
def test_a_linear_edit_finds_what_the_index_of_prototypes_finds(rng, gallery):
    memory = rng.normal(size=(J, P, D)).astype(np.float32)
    linear = LearnedEdit(
        lambda memory, features, indicators: manipulate(features, indicators, memory), memory
    )
    reference, indicators = ask(rng, 20, len(gallery))
    asked = {"reference_ids": reference, "indicators": indicators, "k": 5, "strength": 0.75}
    plain = ManipulationIndex.build_unchecked(gallery, memory, "global").search(**asked)
    found = LearnedEditIndex.build(gallery, linear).search(**asked)
    np.testing.assert_array_equal(found.indices, plain.indices)
    np.testing.assert_allclose(found.distances, plain.distances, atol=1e-6)


def test_queries_are_answered_alike_in_chunks_of_any_size(rng, gallery, edit, monkeypatch):
    reference, indicators = ask(rng, 11, len(gallery))
    index = LearnedEditIndex.build(gallery, edit)
    whole = index.search(reference_ids=reference, indicators=indicators, k=4).indices
    monkeypatch.setattr(learned_edit_index, "CHUNK", 4)
    np.testing.assert_array_equal(
        index.search(reference_ids=reference, indicators=indicators, k=4).indices, whole
    )
    none = index.search(reference_ids=reference[:0], indicators=indicators[:0], k=4)
    assert none.indices.shape == none.distances.shape == (0, 4)


@pytest.mark.parametrize(
    ("spoil", "normalize", "message"),
    [
        (lambda f: f.__setitem__(3, np.nan), "global", "not finite in row 3"),
        (lambda f: f.__setitem__(5, 0), "global", "zero in row 5, so it has no direction"),
        (lambda f: f.__setitem__((5, 1), 0), "attribute", "zero for an attribute in row 5"),
    ],
)
def test_a_gallery_that_cannot_be_compared_is_refused(gallery, edit, spoil, normalize, message):
    spoil(gallery)
    with pytest.raises(ValueError, match=message):
        LearnedEditIndex.build(gallery, edit, normalize)


def test_bad_arguments_are_refused(gallery, edit, unchecked):
    index = LearnedEditIndex.build(gallery, edit)
    one = np.zeros((1, J), int)
    with pytest.raises(ValueError, match="k must lie between 1 and the gallery's 39 rows besides"):
        index.search(reference_ids=np.array([0]), indicators=one, k=40, exclude_reference=True)
    with pytest.raises(ValueError, match="1 reference_ids have 2 indicators"):
        index.search(reference_ids=np.array([0]), indicators=np.zeros((2, J), int), k=1)
    with pytest.raises(ValueError, match="strength must be finite"):
        index.search(reference_ids=np.array([0]), indicators=one, k=1, strength=np.inf)
    away = LearnedEdit(lambda params, features, indicators: features * params, np.float32(np.nan))
    with pytest.raises(ValueError, match="the edit gives features that are not finite"):
        LearnedEditIndex.build(gallery, away).search(reference_ids=np.array([0]), indicators=one + 1, k=1)
    with pytest.raises(ValueError, match="between 0 and 39, got 40"):
        index.search(reference_ids=np.array([40]), indicators=one, k=1)
    with pytest.raises(ValueError, match="normalize must be one of"):
        LearnedEditIndex.build(gallery, edit, "unit")
    with pytest.raises(ValueError, match="G > 0"):
        LearnedEditIndex.build(gallery[:0], edit)
