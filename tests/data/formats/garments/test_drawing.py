import numpy as np
import pytest

from gradrev_jax.data.formats.garments.drawing import (
    CATEGORIES,
    COLORS,
    LENGTHS,
    NECKLINES,
    PATTERNS,
    SLEEVES,
    UPPER,
    draw_garment,
)

SHIRT = {
    "category": "t-shirt",
    "color": "red",
    "pattern": "plain",
    "length": "short",
    "neckline": "round",
    "sleeve": "short",
}


def draw(seed=0, size=64, **changes):
    return draw_garment({**SHIRT, **changes}, size, np.random.default_rng(seed)).astype(float)


def covered(picture):
    """Where the garment lies: what is not as bright and grey as the background in the corner."""
    return np.abs(picture - picture[0, 0]).max(axis=-1) > 12


@pytest.mark.parametrize("color", COLORS)
def test_the_named_color_is_the_nearest_to_what_is_seen(color):
    for seed in range(5):
        seen = np.median(draw(seed, color=color)[24:32, 29:36].reshape(-1, 3), axis=0)
        nearest = min(COLORS, key=lambda name: np.abs(seen - COLORS[name]).sum())
        assert nearest == color


@pytest.mark.parametrize("category", CATEGORIES)
def test_longer_garments_reach_lower(category):
    def lowest(length):
        picture = draw(category=category, length=length, sleeve="sleeveless")
        return np.flatnonzero(covered(picture).any(axis=1)).max()

    assert lowest("short") < lowest("medium") < lowest("long")
    assert set(LENGTHS) == {"short", "medium", "long"}


@pytest.mark.parametrize("category", UPPER)
def test_longer_sleeves_cover_more(category):
    area = {sleeve: covered(draw(category=category, sleeve=sleeve)).sum() for sleeve in SLEEVES}
    assert area["sleeveless"] < area["short"] < area["long"]


def test_necklines_cut_out_different_shapes():
    area = {neckline: covered(draw(neckline=neckline)).sum() for neckline in NECKLINES}
    assert len(set(area.values())) == len(NECKLINES)


def test_patterns_add_a_second_color():
    def spread(pattern):
        return draw(pattern=pattern, category="skirt", length="long")[24:44, 26:38].std(axis=(0, 1)).mean()

    plain = spread("plain")
    assert all(spread(pattern) > 2 * plain for pattern in PATTERNS if pattern != "plain")


def test_everything_else_varies_with_the_random_numbers():
    assert (draw(0) != draw(1)).any()
    np.testing.assert_array_equal(draw(2), draw(2))
