import threading
import time

import pytest

from gradrev_jax.training.feed import AHEAD, Feed, step_ranges


@pytest.mark.parametrize(
    ("first", "last", "at_most", "ends"),
    [(0, 10, 1, (4, 0)), (0, 10, 3, (4, 0)), (5, 23, 4, (7, 5)), (3, 3, 2, (4,)), (0, 9, 100, (0,))],
)
def test_calls_cover_all_steps_and_end_where_something_is_to_be_done(first, last, at_most, ends):
    runs = list(step_ranges(first, last, at_most=at_most, intervals=ends))
    assert [step for run in runs for step in run] == list(range(first, last))
    for run in runs:
        assert 1 <= len(run) <= at_most
        for end in filter(None, ends):
            assert not any(step % end == 0 for step in run[1:]), "none goes on past an end"
    for run in runs[:-1]:
        ended = [run.stop % end == 0 for end in ends if end]
        assert len(run) == at_most or any(ended), "none is shorter than need be"


def test_items_are_prepared_in_order_and_but_a_few_ahead():
    prepared = []
    with Feed(lambda item: prepared.append(item) or item * item, range(10)) as feed:
        for position, square in enumerate(feed):
            assert square == position**2
            time.sleep(0.01)
            assert len(prepared) <= position + 1 + AHEAD
    assert prepared == list(range(10))


def test_preparation_goes_on_while_the_last_item_is_used():
    ready = threading.Event()

    def prepare(item):
        if item == 1:
            ready.set()
        return item

    with Feed(prepare, range(3)) as feed:
        next(feed)
        assert ready.wait(timeout=5), "the second is prepared though nobody has asked for it"


def test_it_knows_how_long_it_was_waited_for():
    with Feed(lambda item: time.sleep(0.05), range(2)) as slow:
        list(slow)
    assert 0.05 <= slow.waited < 1
    with Feed(lambda item: item, range(3)) as fast:
        for _ in fast:
            time.sleep(0.02)
    assert fast.waited < slow.waited


def test_an_error_reaches_who_takes_the_item():
    def prepare(item):
        if item == 1:
            raise OSError("the disk is gone")
        return item

    with Feed(prepare, range(3)) as feed:
        assert next(feed) == 0
        with pytest.raises(OSError, match="the disk is gone"):
            next(feed)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    with Feed(lambda item: item, range(1000)) as feed:
        next(feed)
    assert threading.active_count() == before


def test_no_items():
    with Feed(lambda item: item, []) as feed:
        assert list(feed) == []
