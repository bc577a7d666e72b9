import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.evaluation.examples import pick_queries, retrieval_example, shown_matches


def test_a_query_is_shown_with_what_was_found(make_scores, schema, rng):
    scores = make_scores()
    images = rng.integers(0, 256, (24, 4, 4, 3), dtype=np.uint8)
    for query in (0, 7, len(scores.reference) - 1):
        shown = retrieval_example(scores, query, schema, images, "image {}".format)
        rows = scores.neighbors[query, :5].tolist()
        reference = scores.reference[query]
        np.testing.assert_array_equal(shown.query_image, images[reference])
        np.testing.assert_array_equal(shown.neighbor_images, images[rows])
        assert shown.query_name == f"image {reference}"
        assert shown.neighbor_names == tuple(f"image {row}" for row in rows)
        target = scores.targets[query].tolist()
        for row, wrong, match in zip(rows, shown.neighbor_labels, shown.matches, strict=True):
            labels = scores.labels[row].tolist()
            assert match == (labels == target) == (wrong == "")
            words = [["blue", "green", "red", "not labelled"], ["s", "m", "not labelled"]]
            expected = [
                f"{name}: {words[n][labels[n]]}"
                for n, name in enumerate(("color", "size"))
                if labels[n] != target[n]
            ]
            assert wrong == ", ".join(expected)
        (asked,) = np.flatnonzero(scores.indicators[query] == 1)
        assert shown.change.endswith(schema.value_name(int(asked)))


def test_long_names_and_values_are_shortened_and_stay_apart(make_scores, rng):
    long = AttributeSchema(
        ("c" * 300, "size"), (("blue " * 60, "light  blue", "light blue"), ("s" * 300, "s" * 301))
    )
    scores = make_scores()
    images = rng.integers(0, 256, (24, 4, 4, 3), dtype=np.uint8)
    shown = [retrieval_example(scores, query, long, images, str) for query in range(len(scores.reference))]
    assert max(len(each.change) for each in shown) <= 20 + 2 + 20 + 4 + 20
    changes = {each.change for each in shown}
    assert len(changes) == len({tuple(indicator) for indicator in scores.indicators.tolist()})


def test_matches_among_the_first_five(make_scores):
    scores = make_scores()
    expected = [
        [scores.labels[row].tolist() == target for row in rows[:5]]
        for rows, target in zip(scores.neighbors.tolist(), scores.targets.tolist(), strict=True)
    ]
    assert shown_matches(scores).tolist() == expected
    assert 0 < np.mean(expected) < 1


@pytest.mark.parametrize("count", [1, 3, 4, 50])
def test_attributes_take_turns_among_the_candidates(rng, count):
    changed = np.eye(3, dtype=bool)[np.repeat([0, 1, 2], [30, 5, 3])]
    candidates = rng.random(38) < 0.8
    picked = pick_queries(candidates, changed, count=count, seed=1)
    assert len(picked) == len(set(picked)) == min(count, candidates.sum())
    assert candidates[picked].all()
    if count <= 4:
        assert changed[picked].sum(axis=0).max() <= -(-count // 3)
    assert picked == pick_queries(candidates, changed, count=count, seed=1)


def test_without_candidates_nothing_is_picked():
    assert pick_queries(np.zeros(3, bool), np.ones((3, 1), bool), count=2, seed=0) == []
