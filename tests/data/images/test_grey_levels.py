import numpy as np
import pytest
from PIL import Image

from gradrev_jax.data.images.grey_levels import eight_bit_levels


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_integers_reach_from_0_to_the_full_scale(dtype):
    assert eight_bit_levels(np.array([[0, 257, 32896, 65535]], dtype)).tolist() == [[0, 1, 128, 255]]
    assert eight_bit_levels(np.array([[0, 4095]], dtype), full_scale=4095).tolist() == [[0, 255]]
    assert eight_bit_levels(np.zeros((2, 2), dtype)).tolist() == [[0, 0], [0, 0]]


def test_every_sixteen_bit_level_is_the_nearest_below():
    grey = np.arange(65536).reshape(256, 256)
    np.testing.assert_array_equal(eight_bit_levels(grey), grey // 257)


def test_fractions_of_one_are_the_levels_they_were_made_of():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(eight_bit_levels((levels / 255).astype(np.float32)), levels)
    assert eight_bit_levels(np.array([[-0.005, 1.005]], np.float32)).tolist() == [[0, 255]], "resampled"


def test_levels_as_floats_are_cut_as_pillow_cuts_them():
    grey = np.random.default_rng(0).uniform(0, 255, (9, 7)).astype(np.float32)
    np.testing.assert_array_equal(eight_bit_levels(grey), np.asarray(Image.fromarray(grey).convert("L")))


@pytest.mark.parametrize(
    ("grey", "message"),
    [
        (
            np.array([[0, 200]], np.uint16),
            r"reach only 200 of 65,535, .* black throughout; save it with 8 bits",
        ),
        (np.array([[0, 255]], np.int32), r"reach only 255 of 65,535"),
        (
            np.array([[-1, 3000]], np.int32),
            r"reach from -1 to 3,000, and only 0 to 65,535 has a clear meaning",
        ),
        (np.array([[0, 2**31 - 1]], np.int32), r"reach from 0 to 2,147,483,647"),
        (np.array([[-1.0, 1.0]]), r"reach from -1 to 1, and only 0 to 1, or 0 to 255,"),
        (np.array([[0.0, 1.5]]), r"reach from 0 to 1.5"),
        (np.array([[0.0, 65535.0]]), r"reach from 0 to 6.554e\+04"),
        (np.array([[0.0, 0.001]]), r"reach only 0.001, which is black throughout"),
        (np.array([[0.0, np.nan]]), r"hold NaN or infinity"),
        (np.array([[0.0, np.inf]]), r"hold NaN or infinity"),
    ],
)
def test_a_meaning_that_would_be_a_guess_is_refused(grey, message):
    with pytest.raises(ValueError, match=message):
        eight_bit_levels(grey)
