import os

from gradrev_jax.core.workers import usable_cores


def test_the_cores_are_those_that_the_process_may_run_on(monkeypatch):
    """In a container of 4 of 64 cores, 64 threads divided the work."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    assert usable_cores() == 4


def test_where_no_affinity_is_known_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
