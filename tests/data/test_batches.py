import numpy as np
import pytest

from gradrev_jax.data.batches import batch_rows, steps_per_epoch


def rows(seed, step):
    return batch_rows(seed, step, num_examples=23, batch_size=5)


def test_an_epoch_holds_no_row_twice():
    for epoch in range(3):
        seen = np.concatenate([rows(0, epoch * 4 + position) for position in range(4)])
        assert len(seen) == len(set(seen.tolist())) == 20
        assert seen.min() >= 0
        assert seen.max() < 23


def test_batches_depend_on_seed_and_step_alone():
    forward = [rows(7, step).tolist() for step in range(12)]
    backward = [rows(7, step).tolist() for step in reversed(range(12))][::-1]
    assert forward == backward
    assert forward != [rows(8, step).tolist() for step in range(12)]
    assert forward[0] != forward[4], "another epoch has another order"


def test_every_image_is_used_within_ten_epochs():
    seen = np.concatenate([rows(0, step) for step in range(4 * 10)])
    assert set(seen.tolist()) == set(range(23))


def test_a_batch_that_does_not_fit_is_refused():
    assert steps_per_epoch(5, 5) == 1
    for size in (0, 6):
        with pytest.raises(
            ValueError, match=f"^`batch_size` {size} does not fit 5 training examples; set it between 1 and 5"
        ):
            steps_per_epoch(5, size)
