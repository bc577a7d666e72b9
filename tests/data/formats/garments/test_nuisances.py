import colorsys

import numpy as np
import pytest

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.formats.garments.catalogue import SCHEMA, GarmentImages, garments_catalogue
from gradrev_jax.data.formats.garments.drawing import COLORS
from gradrev_jax.data.formats.garments.nuisances import GREYS, PERIODS

SQUARE = Transform(48, 48)


@pytest.fixture(scope="module")
def drawn():
    """Plain and patterned garments of one catalogue: their words, their nuisances and their pictures."""
    catalogue = garments_catalogue(count=240, seed=2)
    words = [dict(zip(SCHEMA.names, SCHEMA.words(row), strict=True)) for row in catalogue.labels]
    pictures = [catalogue.images.read(row, SQUARE).astype(float) for row in range(240)]
    return words, catalogue.nuisances, pictures


def covered(picture):
    """Where the garment lies: what is not as bright and grey as the background in the corner."""
    return np.abs(picture - picture[0, 0]).max(axis=-1) > 12


def column(nuisances, name):
    return nuisances.values[:, nuisances.names.index(name)]


def test_every_image_has_its_nuisances(drawn):
    words, nuisances, _ = drawn
    assert nuisances.names == tuple(PERIODS)
    assert nuisances.values.shape == (240, len(PERIODS))
    for name in PERIODS:
        missing = np.isnan(column(nuisances, name))
        if name == "hue":
            expected = [garment["color"] in GREYS for garment in words]
        else:
            expected = [name.startswith("pattern") and garment["pattern"] == "plain" for garment in words]
        np.testing.assert_array_equal(missing, expected)


def test_hue_and_shade_are_those_that_are_seen(drawn):
    """The upper quartile of a plain garment's pixels, because its lines and its rim are darker."""
    words, nuisances, pictures = drawn
    pairs = []
    for row, (garment, picture) in enumerate(zip(words, pictures, strict=True)):
        if garment["pattern"] == "plain" and garment["color"] != "white":  # as the background
            seen = np.percentile(picture[covered(picture)], 75, axis=0)
            named = np.asarray(COLORS[garment["color"]])
            shade = (seen.mean() - named.mean()) / 255
            hue = colorsys.rgb_to_hsv(*seen / 255)[0] - colorsys.rgb_to_hsv(*named / 255)[0]
            hue = (hue + 0.5) % 1 - 0.5
            pairs.append((column(nuisances, "shade")[row], shade, column(nuisances, "hue")[row], hue))
    told_shade, seen_shade, told_hue, seen_hue = np.array(pairs).T
    assert np.corrcoef(told_shade, seen_shade)[0, 1] > 0.9
    known = ~np.isnan(told_hue)
    assert np.corrcoef(told_hue[known], seen_hue[known])[0, 1] > 0.9
    assert np.abs(told_hue[known]).max() < 0.1


def test_position_and_size_are_those_that_are_seen(drawn):
    words, nuisances, pictures = drawn
    masks = [covered(picture) for picture in pictures]
    centres = np.array([np.nonzero(mask)[1].mean() / 48 - 0.5 for mask in masks])
    assert np.corrcoef(centres, column(nuisances, "x"))[0, 1] > 0.9
    # The top of a skirt is moved by y, and by the height that the picture is drawn at.
    skirts = [row for row, garment in enumerate(words) if garment["category"] == "skirt"]
    tops = np.array([np.flatnonzero(masks[row].any(axis=1)).min() / 48 for row in skirts])
    y, height = (column(nuisances, name)[skirts] for name in ("y", "height"))
    assert np.corrcoef(tops, y - 0.3 * height)[0, 1] > 0.7


def test_nuisances_say_nothing_of_the_labels(drawn):
    words, nuisances, _ = drawn
    for name in PERIODS:
        values = column(nuisances, name)
        known = ~np.isnan(values)
        for attribute in ("category", "color", "length"):
            labels = np.array([garment[attribute] for garment in words])[known]
            means = [values[known][labels == label].mean() for label in np.unique(labels)]
            limit = 0.9 if name == "pattern angle" else 0.6  # stripes alone have all angles
            assert np.ptp(means) < limit * 2 * values[known].std()


def test_nuisances_are_those_of_the_drawings_seed():
    first, again, other = (garments_catalogue(count=8, seed=seed).nuisances for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.values[:, 1:7] != other.values[:, 1:7]).all()


def test_only_stripes_have_angles_beyond_those_of_a_symmetric_pattern(drawn):
    words, nuisances, _ = drawn
    angle = column(nuisances, "pattern angle")
    is_striped = np.array([garment["pattern"] == "striped" for garment in words])
    assert np.nanmax(np.abs(angle[~is_striped])) <= 0.5
    turned = np.abs(angle[is_striped] - np.pi / 2) <= 0.5
    assert 0.2 < turned.mean() < 0.8
    assert (np.abs(angle[is_striped][~turned]) <= 0.5).all()


def test_nuisances_of_some_garments_are_those_of_all_and_computed_when_they_are_read(monkeypatch):
    read, compute = [], GarmentImages.nuisances
    monkeypatch.setattr(GarmentImages, "nuisances", lambda self, row: read.append(row) or compute(self, row))
    nuisances = garments_catalogue(count=20, seed=3).nuisances
    assert (read, len(nuisances)) == ([], 20)
    some = nuisances.of_rows(np.array([7, 2]))
    assert read == [7, 2]
    np.testing.assert_array_equal(some, nuisances.values[[7, 2]])
    assert not np.array_equal(some, nuisances.values[[2, 7]], equal_nan=True)
