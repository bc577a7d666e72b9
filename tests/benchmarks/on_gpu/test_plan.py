import pathlib

from benchmarks.on_gpu.plan import EXIT_SECONDS, OTHERS, plan, with_time
from gradrev_jax.systems.registry import SYSTEMS

OUT = pathlib.Path("/results")


def test_the_order_is_the_one_that_was_asked_for():
    assert [step.name for step in plan(OUT, dry_run=False)] == [
        *("card", "tests", "compare", "profile", "systems", "search", "paper")
    ]


def test_all_but_the_last_leave_it_a_minute_of_nine():
    *others, last = plan(OUT, dry_run=False)
    assert sum(step.limit for step in others) < 9 * 60 - 60
    assert last.limit == float("inf")


def test_a_card_s_limits_do_not_end_a_dry_run_on_a_busy_cpu():
    for real, dry in zip(plan(OUT, dry_run=False), plan(OUT, dry_run=True), strict=True):
        assert dry.name == real.name
        assert dry.limit == 10 * real.limit


def test_every_system_with_a_model_of_its_own_is_profiled():
    assert {*OTHERS, "gradrev"} == set(SYSTEMS)


def test_only_a_dry_run_is_tiny():
    for step in plan(OUT, dry_run=True):
        assert "--tiny" in step.command or step.name == "tests"
        assert f"--out={OUT}" in step.command or step.name == "tests"
    assert not any("--tiny" in step.command for step in plan(OUT, dry_run=False))


def test_no_step_gets_more_than_is_left_and_the_last_is_told():
    first, *_, last = plan(OUT, dry_run=False)
    assert with_time(first, 100.0) == (first.command, first.limit)
    assert with_time(first, 10.0) == (first.command, 10.0)
    assert with_time(last, 100.0) == ((*last.command, f"--seconds={100 - EXIT_SECONDS:.0f}"), 100.0)
    assert with_time(last, 5.0)[0][-1] == "--seconds=0"
