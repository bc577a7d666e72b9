import numpy as np
import pytest

from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
from gradrev_jax.data.images import pool
from gradrev_jax.data.images.pool import ImagePool
from gradrev_jax.errors import DataError

SOURCE = garments_catalogue(count=501).images
ROWS = list(range(500, 400, -1))  # more than a thread is given at once


def make_pool(workers, rows=ROWS):
    return ImagePool(SOURCE, rows, workers, "images", False)


@pytest.mark.parametrize("workers", [None, 1, 3])
@pytest.mark.parametrize("count", [0, 1, pool.CHUNK + 1, 100])
def test_every_image_is_worked_on_once_and_results_are_in_order(workers, count):
    seen = []
    results = make_pool(workers, ROWS[:count]).call("adding", lambda *each: seen.append(each) or sum(each))
    assert results == [500] * count
    assert sorted(seen) == list(enumerate(ROWS[:count]))


def test_all_images_that_fail_are_named_in_their_order():
    def work(position, row):
        if position in (3, 40, 99):
            raise OSError(f"no {row}")

    with pytest.raises(
        DataError, match="(?s)3 of 100 .*garment 497: no 497.*garment 460.*garment 401: no 401"
    ):
        make_pool(2).call("reading", work)


def test_images_that_were_taken_are_counted_among_all_of_them():
    """Of 300 images, 32 were decoded again, and 3 of 32 could not be read."""

    def fail(position, row):
        raise OSError("no")

    some = make_pool(2).take(np.arange(8)).take(np.array([5, 3]))
    assert some.rows == [495, 497]
    with pytest.raises(DataError, match="2 of 100 images cannot be read"):
        some.call("reading", fail)
