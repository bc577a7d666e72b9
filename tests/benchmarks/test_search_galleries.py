import numpy as np
import pytest

from benchmarks.search_galleries import galleries_of_run, with_classes, without_classes
from gradrev_jax.core.normalization import normalize_features

SIZES = {"gallery": 400, "references": 10, "queries": 40, "dim": 20}


@pytest.mark.long
def test_without_classes_nothing_is_near():
    """The prototypes have one block each, 1.5 times as long as the features'; classes bring rows together."""
    gallery, other = without_classes(**SIZES), with_classes(**SIZES)
    assert gallery.sizes == other.sizes == SIZES | {"blocks": 12}
    outside = np.arange(12) != gallery.schema.attribute_of[:, None]
    assert not gallery.memory[outside].any()
    np.testing.assert_allclose(gallery.memory[~outside].std() / gallery.features.std(), 1.5, rtol=0.05)
    most = [
        np.sort(normalize_features(x.features, "global") @ normalize_features(x.features, "global").T)[:, -2]
        for x in (gallery, other)
    ]
    assert most[0].mean() < most[1].mean()


def test_a_run_is_searched_in_its_gallery_and_in_all_of_its_images(paper_run):
    (name, own), (all_name, all_images) = galleries_of_run(paper_run, "features")
    assert (name, all_name) == ("run", "run_all_images")
    assert own.sizes["gallery"] == 24
    assert all_images.sizes["gallery"] == 60
    assert all_images.sizes["queries"] == own.sizes["queries"] > 0
    np.testing.assert_array_equal(all_images.features[:24], own.features)  # so that the queries fit both
    assert own.reference.max() < 24
    assert own.memory.shape == (own.schema.num_values, *own.features.shape[1:])
