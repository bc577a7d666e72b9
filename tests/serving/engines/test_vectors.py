import numpy as np
import pytest

from gradrev_jax.core.normalization import normalize_features, scale_weights
from gradrev_jax.search.block_comparison import BlockComparison
from gradrev_jax.serving.engines import vectors
from gradrev_jax.serving.engines.vectors import ComparedVectors, engine_gallery
from tests.engine_galleries import SCHEMA, make_gallery

WEIGHTS = scale_weights([1.0, 2.0, 0.5], 3)


@pytest.mark.parametrize("normalize", ["global", "attribute", "none"])
def test_vectors_are_those_that_retrieval_compares(normalize):
    features, _ = make_gallery()
    compared = ComparedVectors(features, BlockComparison.of_blocks(3, 3, normalize, WEIGHTS))
    expected = np.asarray(normalize_features(features, normalize, WEIGHTS))
    assert compared.shape == expected.shape
    np.testing.assert_allclose(compared[10:20], expected[10:20], rtol=2e-6, atol=1e-7)
    assert compared[:0].shape == (0, expected.shape[1])


def make(features, comparison=None, **changes):
    _, gallery = make_gallery()
    given = {"names": gallery.names, "labels": gallery.labels, "schema": SCHEMA, **changes}
    return engine_gallery(features, comparison or BlockComparison.of_blocks(3, 3, "global", None), **given)


def test_what_belongs_to_no_attribute_begins_after_the_attributes_blocks():
    features, _ = make_gallery()
    with_rest = np.concatenate([features, features[:, :2]], axis=1)
    assert make(features).rest_from == 24
    assert make(with_rest, BlockComparison.of_blocks(5, 3, "none", None)).rest_from == 24
    assert make(with_rest, BlockComparison.of_blocks(5, 3, "attribute", None)).rest_from == 40


def test_a_change_of_anything_changes_the_fingerprint():
    features, gallery = make_gallery()
    other = features.copy()
    other[77, 1, 3] += 1
    labels = gallery.labels.copy()
    labels[3, 0] = (labels[3, 0] + 2) % 3 - 1
    made = [
        make(features),
        make(other),
        make(features, BlockComparison.of_blocks(3, 3, "attribute", None)),
        make(features, BlockComparison.of_blocks(3, 3, "global", WEIGHTS)),
        make(features, labels=labels),
        make(features, names=["other", *gallery.names[1:]]),
    ]
    assert len({gallery.fingerprint for gallery in made}) == len(made)
    assert make(features.copy()).fingerprint == made[0].fingerprint


def test_the_numbers_of_a_kept_gallery_are_read_once(tmp_path, monkeypatch):
    features, _ = make_gallery()
    first = make(features, kept=tmp_path).fingerprint
    monkeypatch.setattr(vectors, "fingerprint", None)
    assert make(features, kept=tmp_path).fingerprint == first
    monkeypatch.undo()
    assert make(features).fingerprint == first
    assert make(features, kept=tmp_path / "missing").fingerprint == first
