import numpy as np
import pytest
from matplotlib.figure import Figure

from gradrev_jax.data.catalogue import Catalogue
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.comparison import queries
from gradrev_jax.evaluation.comparison.queries import choose_queries, shown_queries
from gradrev_jax.evaluation.comparison.systems import read_systems
from gradrev_jax.evaluation.examples import shown_matches


@pytest.fixture
def systems(make_run):
    runs = [make_run("a", 0), make_run("b", 1), make_run("c", 2)]
    return read_systems([str(run) for run in runs])[0]


class Images:
    """So many, none of which can be read."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def name(self, row):
        return f"image {row}"

    def digest(self, row):
        raise OSError

    read = digest


@pytest.fixture
def readable(monkeypatch, make_scores, schema, rng):
    """What the runs were tested on: their gallery is the catalogue in reverse."""
    labels = make_scores().labels[::-1].copy()
    parts = {"train": np.zeros(0, int), "validation": np.zeros(0, int), "test": np.arange(24)[::-1]}
    catalogue = Catalogue(schema, Images(24), labels, parts)
    images = rng.integers(0, 256, (24, 6, 6, 3), dtype=np.uint8)
    monkeypatch.setattr(queries, "gallery_pictures", lambda directory, data, progress: (catalogue, images))
    return labels


def test_half_of_the_queries_tell_the_systems_apart(systems):
    hits = np.stack([shown_matches(system.runs[0].scores).any(axis=1) for system in systems])
    picked = choose_queries(systems)
    differ = [len(set(hits[:, query].tolist())) > 1 for query in picked]
    assert differ == [True] * 3 + [False] * 3
    assert len(set(picked)) == 6
    assert picked == choose_queries(systems) != choose_queries(systems, seed=1)


def test_a_single_system_has_queries_too(systems):
    assert len(choose_queries(systems[:1])) == 6


def test_every_query_is_shown_as_all_systems_answer_it(systems, schema, readable, monkeypatch):
    drawn = []
    monkeypatch.setattr(queries, "query_grid", lambda answers: drawn.append(answers) or Figure())
    found, reason = shown_queries(systems, schema)
    assert (len(found), reason) == (6, "")
    for query, answers, (change, _) in zip(choose_queries(systems), drawn, found, strict=True):
        assert [name for name, _ in answers] == ["a", "b", "c"]
        for system, (_, shown) in zip(systems, answers, strict=True):
            scores = system.runs[0].scores
            assert shown.change == change
            assert shown.query_name == f"image {23 - scores.reference[query]}"
            assert shown.neighbor_names == tuple(f"image {23 - row}" for row in scores.neighbors[query, :5])


def test_images_that_cannot_be_read_are_no_failure(systems, schema, readable, monkeypatch):
    def unreadable(directory, data, progress):
        raise DataError("images/1.jpg is gone")

    monkeypatch.setattr(queries, "gallery_pictures", unreadable)
    assert shown_queries(systems, schema) == ([], "images/1.jpg is gone")


def test_a_catalogue_that_has_changed_is_not_shown(systems, schema, readable):
    readable[3, 0] = (readable[3, 0] + 1) % 3
    found, reason = shown_queries(systems, schema)
    assert found == []
    assert "is not the one that was evaluated any more" in reason


def test_the_images_may_have_moved(systems, schema, monkeypatch):
    def moved(directory, data, progress):
        raise DataError(f"looked in {data['root']}")

    monkeypatch.setattr(queries, "gallery_pictures", moved)
    assert shown_queries(systems, schema, data={"root": "/new"}) == ([], "looked in /new")
