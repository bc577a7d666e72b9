import json
import tempfile

import pytest

from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs.config_check import check
from gradrev_jax.serving.retriever import Retriever
from tests.faults import long_runs
from tests.faults.long_runs import Case, cases, failures, run, table
from tests.faults.training_watch import Watched, watched

pytestmark = pytest.mark.usefixtures("small_backbone")


@pytest.fixture(scope="module")
def short(tmp_path_factory, cache_dir):
    """Runs some steps of a case with temporary files of its own; returns its folder and what is recorded."""

    def run_short(case, steps):
        folder = tmp_path_factory.mktemp("short")
        with pytest.MonkeyPatch.context() as patch:
            (folder / "tmp").mkdir()
            patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
            return folder / "run", run(case, steps, folder / "run", count=200, cache=cache_dir)

    return run_short


@pytest.mark.long
def test_a_balanced_run_compiles_once_and_leaves_nothing_behind(short, tmp_path, monkeypatch):
    case = cases(100)["shared balanced 10"]
    folder, result = short(case, 100)
    assert failures(case, result, whole=False) == []
    assert (result["steps"], result["finite"], result["diverged"]) == (100, True, None)
    assert result["compiled_after_the_first_epoch"] == 0, "the epoch is over, so it was counted"
    assert "| shared balanced 10 | 100 | True |" in table({case.name: {**result, "wrong": []}})

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with watched() as seen:
        evaluate(folder, progress=False)
        Retriever.open(folder, progress=False).close()
    assert (seen.threads, seen.files) == ([], [])


@pytest.mark.long
def test_a_fixed_run_that_diverges_keeps_a_checkpoint_that_can_be_gone_on_from(short):
    case = cases(60)["shared fixed 10, high rate"]
    folder, result = short(case, 60)
    assert failures(case, result, whole=False) == []
    assert "set reversal.weighting=balanced (now fixed)" in result["diverged"]
    assert f"the checkpoint of step {long_runs.last_checkpoint(folder)} is kept" in result["diverged"]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"finite": False}, ["not finite"]),
        ({"diverged": "at step 3"}, ["diverged"]),
        ({"drift": 0.021}, ["memory drifts"]),
        ({"retraced": 1}, ["retraced"]),
        ({"compiled_after_the_first_epoch": 2}, ["compiled after the first epoch"]),
        ({"threads_left": ["feed_0"]}, ["threads left"]),
        ({"temporary_files_left": ["x"]}, ["temporary files left"]),
    ],
)
def test_what_is_wrong_with_a_run_is_named(change, wrong):
    good = {"finite": True, "diverged": None, "drift": 0.019, "retraced": 0}
    good |= {"compiled_after_the_first_epoch": 0, "threads_left": [], "temporary_files_left": []}
    assert failures(Case("x"), good, whole=True) == []
    assert failures(Case("x"), good | change, whole=True) == wrong
    assert failures(Case("x", must_diverge=True), good, whole=True) == ["did not diverge"]


def test_a_program_that_is_built_again_is_counted():
    seen = Watched(built=[(0, 1, "traced", "_take_steps"), (0, 40, "compiled", "validation")])
    assert (seen.retraced(), len(seen.built_after(30)), seen.built_after(40)) == ([], 1, [])
    seen.built.append((0, 2, "traced", "_take_steps"))
    assert len(seen.retraced()) == 1


def test_every_run_has_a_config_that_can_be_run(tmp_path):
    """One of them had not, which nothing but hours of them all would have told."""
    for case in cases(100).values():
        check(long_runs.config_of(case, 100, count=200, cache=tmp_path))


@pytest.mark.slow
def test_long_runs_stay_finite_and_flat(tmp_path):
    assert long_runs.main(["--steps=10000", f"--out={tmp_path / 'runs.json'}"]) == 0
    assert len(json.loads((tmp_path / "runs.json").read_text())["runs"]) == len(cases(10_000))
