import threading
from concurrent.futures import CancelledError

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gradrev_jax.core.workers import NUM_WORKERS
from gradrev_jax.evaluation import background
from gradrev_jax.evaluation.background import run_in_background

HALF_OF_THE_CORES = max(1, NUM_WORKERS // 2)


def blas_threads():
    """Returns the number of threads of each BLAS library of this process."""
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_other_work_is_done_meanwhile():
    has_begun, may_end = threading.Event(), threading.Event()

    def work(raise_if_cancelled):
        has_begun.set()
        assert may_end.wait(10)
        raise_if_cancelled()
        return "found"

    with run_in_background(work) as wait:
        assert has_begun.wait(10)
        may_end.set()
        assert wait() == wait() == "found"


def test_a_block_that_does_not_wait_ends_with_the_work():
    done = []
    with run_in_background(lambda raise_if_cancelled: done.append(raise_if_cancelled())):
        pass
    assert done == [None]


def test_an_error_of_the_work_comes_where_it_is_waited_for():
    def fail(raise_if_cancelled):
        raise ValueError("not measured")

    with run_in_background(fail) as wait, pytest.raises(ValueError, match="not measured"):
        wait()


def test_an_error_in_the_block_waits_for_one_part_of_the_work_alone():
    begun, may_end, parts, ended = threading.Semaphore(0), threading.Event(), [], []

    def work(raise_if_cancelled):
        try:
            for part in range(3):
                raise_if_cancelled()
                parts.append(part)
                begun.release()
                may_end.wait(10)
        except CancelledError:
            ended.append("cancelled")
            raise

    def interrupted():
        with run_in_background(work):
            assert begun.acquire(timeout=10)
            threading.Timer(0.2, may_end.set).start()  # when the block has been left
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (parts, ended) == ([0], ["cancelled"])


def test_blas_leaves_other_work_half_of_the_cores():
    before = blas_threads()
    assert before
    with run_in_background(lambda raise_if_cancelled: None):
        assert all(count <= HALF_OF_THE_CORES for count in blas_threads())
        with run_in_background(lambda raise_if_cancelled: None):
            assert all(count <= HALF_OF_THE_CORES for count in blas_threads())
        assert all(count <= HALF_OF_THE_CORES for count in blas_threads())
    assert blas_threads() == before


def test_blas_gets_no_more_threads_than_it_was_allowed(monkeypatch):
    monkeypatch.setattr(background, "NUM_WORKERS", 8)
    with threadpool_limits(1, user_api="blas"), run_in_background(lambda raise_if_cancelled: None):
        assert set(blas_threads()) == {1}
