import itertools

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.indicators import make_indicator
from gradrev_jax.data.changes import KINDS, existing_changes, indicators_between

SCHEMA = AttributeSchema(("a", "b", "c"), (("0", "1", "2"), ("0", "1"), ("0", "1", "2")))


def distinct_rows(seed, count=30):
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.integers(-1, size, count) for size in SCHEMA.sizes], axis=1)
    return np.unique(labels.astype(np.int32), axis=0)


def slow_changes(rows, kinds, num_changes):
    found = []
    for i, j in itertools.product(range(len(rows)), repeat=2):
        differing = [n for n in range(3) if rows[i, n] != rows[j, n]]
        what = {"add" if rows[i, n] < 0 else "remove" if rows[j, n] < 0 else "swap" for n in differing}
        if len(differing) == num_changes and what <= set(kinds):
            found.append((i, tuple(differing), tuple(int(rows[j, n]) for n in differing), j))
    return [(i, j) for i, _, _, j in sorted(found)]


@pytest.mark.parametrize("kinds", [("swap",), ("add",), ("remove",), ("swap", "add"), KINDS])
@pytest.mark.parametrize("num_changes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_against_comparing_all_pairs(kinds, num_changes, seed):
    rows = distinct_rows(seed)
    changes = existing_changes(rows, SCHEMA, kinds=kinds, num_changes=num_changes)
    assert list(zip(changes.row.tolist(), changes.target.tolist(), strict=True)) == slow_changes(
        rows, kinds, num_changes
    )


def test_indicators_agree_with_those_made_from_words():
    rows = distinct_rows(0)
    changes = existing_changes(rows, SCHEMA, kinds=KINDS, num_changes=2)
    before, after = rows[changes.row], rows[changes.target]
    for row, old, new in zip(indicators_between(before, after, SCHEMA), before, after, strict=True):
        wanted = {
            name: None if new[n] < 0 else SCHEMA.values[n][new[n]]
            for n, name in enumerate(SCHEMA.names)
            if old[n] != new[n]
        }
        np.testing.assert_array_equal(row, make_indicator(SCHEMA, old, wanted))


def test_unknown_kinds_and_too_many_changes_are_refused(unchecked):
    rows = distinct_rows(0)
    with pytest.raises(ValueError, match="some of swap, add, remove, got .'replace',"):
        existing_changes(rows, SCHEMA, kinds=("replace",))
    with pytest.raises(ValueError, match="some of swap, add, remove"):
        existing_changes(rows, SCHEMA, kinds=())
    with pytest.raises(ValueError, match=r"num_changes must lie in \[1, 3\], got 4"):
        existing_changes(rows, SCHEMA, num_changes=4)


def test_no_rows_have_no_changes():
    changes = existing_changes(np.zeros((0, 3), np.int32), SCHEMA)
    assert len(changes.row) == len(changes.target) == 0
    assert indicators_between(np.zeros((0, 3), int), np.zeros((0, 3), int), SCHEMA).shape == (0, 8)
