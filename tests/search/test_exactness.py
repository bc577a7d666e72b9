"""No neighbour is wrong by more than a direct sum rounds: adversarial galleries against exact rationals."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex
from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.search.changes import make_changes
from gradrev_jax.search.edits import apply_edits, make_edits
from gradrev_jax.search.references import make_references

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "red"), ("s", "m", "l"), ("x",)))
ROWS, QUERIES, VALUES, ATTRIBUTES, DIM = 48, 6, 6, 3, 4


def cancelling(rng, gallery, memory):
    """All rows are long and almost the same, so that products cancel to their last digits."""
    common = 1e3 * rng.normal(size=gallery.shape[1:])
    return common + 1e-3 * gallery, memory


def of_all_lengths(rng, gallery, memory):
    return gallery * 10.0 ** rng.integers(-6, 7, (len(gallery), 1, 1)), memory


def of_all_entries(rng, gallery, memory):
    return gallery * 10.0 ** rng.integers(-6, 7, gallery.shape), memory


def huge(rng, gallery, memory):
    return 1e15 * gallery, 1e15 * memory


def small(rng, gallery, memory):
    return 1e-8 * gallery, 1e-8 * memory


def duplicated(rng, gallery, memory):
    return gallery[rng.permutation(np.arange(ROWS) % (ROWS // 4))], memory


def one_digit_apart(rng, gallery, memory):
    """Copies that differ in the last digit of one number: nearer to each other than any product tells."""
    copies = np.float32(gallery)[np.arange(ROWS) % 4]
    entry = rng.integers(0, ATTRIBUTES, ROWS), rng.integers(0, DIM, ROWS)
    copies[np.arange(ROWS), *entry] = np.nextafter(copies[np.arange(ROWS), *entry], np.float32(9))
    return copies, memory


def tied(rng, gallery, memory):
    """Whole numbers, whose sums are exact, and many of them equal."""
    return rng.integers(0, 2, gallery.shape) + np.eye(DIM)[0], np.round(memory)


def almost_gone(rng, gallery, memory):
    """What a prototype takes away from a reference leaves hardly more than rounding."""
    gallery = gallery.copy()
    gallery[:QUERIES] = memory[0] + 1e-5 * gallery[:QUERIES]
    return gallery, memory


GALLERIES = (
    *(cancelling, of_all_lengths, of_all_entries, huge, small),
    *(duplicated, one_digit_apart, tied, almost_gone),
)


def example(rng, make, soft):
    gallery = rng.normal(size=(ROWS, ATTRIBUTES, DIM))
    memory = rng.normal(size=(VALUES, ATTRIBUTES, DIM))
    if not soft:
        memory *= SCHEMA.membership[:, :, None]
    gallery, memory = (np.float32(x) for x in make(rng, gallery, memory))
    indicators = rng.integers(-1, 2, (QUERIES, VALUES), dtype=np.int8)
    indicators[0] = 0
    indicators[1] = -np.eye(VALUES, dtype=np.int8)[0]
    return gallery, memory, np.arange(QUERIES), indicators


def exact_squares(index, reference, indicators):
    """The squared distances of all rows from the edited vectors that float32 holds, without any rounding."""
    references = make_references(index.products, index.take(reference))
    changes = make_changes(indicators, 1.0, index.products.memory, None, len(reference))
    edits = make_edits(np.arange(len(reference)), changes)
    vectors = apply_edits(index.products, references, edits).vectors
    vectors, rows = (np.asarray(x).reshape(len(x), -1).tolist() for x in (vectors, index.products.rows))
    return [
        [sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(vector, row, strict=True)) for row in rows]
        for vector in vectors
    ]


def check(index, reference, indicators, ks):
    width = index.products.rows[0].size
    off = Fraction(float((width + 8) * np.finfo(np.float32).eps))  # what two direct sums may round
    rows = np.asarray(index.products.rows)
    exact = exact_squares(index, reference, indicators)
    for k in ks:
        found = index.search(reference_ids=reference, indicators=indicators, k=k)
        for squares, indices in zip(exact, found.indices.tolist(), strict=True):
            assert len(set(indices)) == k
            for near, far in itertools.pairwise(indices):
                assert squares[near] <= squares[far] * (1 + off)
                assert near < far or (rows[near] != rows[far]).any()  # equal rows stand in their order
            nearest_left_out = min((x for g, x in enumerate(squares) if g not in indices), default=None)
            if nearest_left_out is not None:
                assert max(squares[row] for row in indices) <= nearest_left_out * (1 + off)


@pytest.mark.long
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_no_neighbour_is_wrong(rng, how, soft):
    """All galleries in one test, because they share their programs."""
    for make in GALLERIES:
        gallery, memory, reference, indicators = example(rng, make, soft)
        index = ManipulationIndex.build(gallery, memory, SCHEMA, how)
        check(index, reference, indicators, (1, 5, ROWS))


@pytest.mark.long
@pytest.mark.parametrize("how", ["global", "none"])
def test_no_neighbour_is_wrong_with_one_attribute(rng, how):
    schema = AttributeSchema(("color",), (("blue", "red"),))
    gallery = np.float32(rng.normal(size=(ROWS, 1, DIM)))[np.arange(ROWS) // 2]
    memory = np.float32(rng.normal(size=(2, 1, DIM)))
    index = ManipulationIndex.build(gallery, memory, schema, how)
    check(index, np.arange(3), np.array([[0, 0], [1, -1], [-1, 0]]), (1, ROWS))
