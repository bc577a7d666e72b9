import json

import pytest

from benchmarks.on_gpu.running import Outcome
from benchmarks.on_gpu.summary import LONGEST, read_results, shortened, summarise, targets
from benchmarks.recording import card_model
from benchmarks.side_by_side.cases import MIXED


def speed(units):
    return {
        "median_seconds": 1.0,
        "least_seconds": 0.9,
        "most_seconds": 1.1,
        "peak_memory_gib": 2.0,
        "units": units,
        "units_per_second": units,
    }


def spread(seconds):
    return {f"{which}_seconds": seconds for which in ("median", "least", "most", "p99")}


def step_case(ours, theirs):
    results = dict(zip(MIXED, map(speed, (ours, theirs)), strict=True))
    sizes = {"image": 224, "batch": 64, "attributes": 12}
    return {"kind": "train_step", "unit": "images", "sizes": sizes, "results": results}


STAGE = {
    "seconds_per_step": {"convolutions": 2e-3, "idle": 1e-3},
    "span_per_step": 3e-3,
    "wall_seconds_per_step": 3e-3,
    "input_wait": 0.03,
    "of_matrix_rate": {"convolutions": 0.5, "both": 0.46},
    "kernels": [{"name": "kernel", "kind": "convolutions", "seconds": 1e-3, "times": 1.0}],
}
PART = {"seconds": 100.0, "how": "measured", "details": {}}
RESULTS = {
    "compare": {"cases": [step_case(130, 100)], "skipped": ["loading: it needs real files"]},
    "profile": {"precision": "bfloat16", "stages": {"encoder": STAGE}},
    "profile_systems": {"precision": "bfloat16", "stages": {"fsn, encoder": STAGE}},
    "search": {
        "evaluation": {
            "sizes": {"gallery": 20_000, "queries": 14_361, "dim": 340},
            "gradrev_jax": spread(0.25),
        },
        "one_more_manipulation": [
            {
                "rows": 1_000_000,
                "width": 4_080,
                "gradrev_jax": spread(0.002),
                "torch on the GPU": spread(0.01),
            },
            {"rows": 9, "width": 9, "skipped": "needs 40.0 GiB on the device, 10.0 GiB are free"},
        ],
    },
    "paper_scale": {
        "devices": ["NVIDIA H100 80GB HBM3"],
        "parts": dict.fromkeys("abcdef", PART),
        "seconds": 720.0,
        "measured_whole": False,
    },
}
OUTCOMES = [
    Outcome("tests", "failed", 61.0, "1 failed", "F.\n1 failed, 10 passed in 60.00s"),
    Outcome("card", "ok", 9),
]


@pytest.fixture
def folder(tmp_path):
    for name, result in RESULTS.items():
        (tmp_path / f"{name}_h100.json").write_text(json.dumps(result))
    return tmp_path


def test_figures_stand_beside_what_was_asked(folder):
    found = {each.what: (each.figure, each.is_met) for each in targets(read_results(folder, "h100"))}
    assert found == {
        "bfloat16 train step, batch 64, times torch's compile channels_last autocast": (1.3, True),
        "convolutions and products of a step of the encoder stage, of the matrix rate": (0.46, True),
        "waiting for input, encoder stage": (0.03, False),
        "search of 14,361 queries, index included, s": (0.25, True),
        "one more manipulation, 1,000,000 x 4,080, ms": (2.0, False),
        "the paper's whole training, partly extrapolated, minutes": (12.0, True),  # 14 on an H100
    }


@pytest.mark.parametrize(
    "kind",
    [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA GeForce RTX 4090",
        "NVIDIA RTX 6000 Ada Generation",
        "NVIDIA GeForce GTX 1080 Ti",
        "NVIDIA A40-48Q",
        "Quadro RTX 8000",
    ],
)
def test_the_results_of_a_card_are_found_whatever_its_name(tmp_path, kind):
    for name, result in RESULTS.items():
        (tmp_path / f"{name}_{card_model(kind)}.json").write_text(json.dumps(result))
    assert read_results(tmp_path, card_model(kind)) == RESULTS


def test_the_results_of_another_machine_are_not_read(folder):
    for name in RESULTS:
        for machine in ("a100", "cpu", "gh100", "rtx_h100", "h100_80gb"):
            (folder / f"{name}_{machine}.json").write_text('{"of": "another"}')
    assert {
        name: result for name, result in read_results(folder, "h100").items() if name in RESULTS
    } == RESULTS
    text = summarise(folder, OUTCOMES, machine="h100", dry_run=False)
    assert "not in the tables, which are of h100 alone: compare_a100.json, compare_cpu.json" in text


def test_an_h200_is_asked_for_more(folder):
    path = folder / "paper_scale_h100.json"
    path.write_text(json.dumps({**RESULTS["paper_scale"], "devices": ["NVIDIA H200"]}))
    (whole,) = [each for each in targets(read_results(folder, "h100")) if "whole training" in each.what]
    assert (whole.asked, whole.is_met) == (10.0, False)


def test_a_training_of_which_parts_are_missing_is_no_whole(folder):
    path = folder / "paper_scale_h100.json"
    path.write_text(json.dumps({**RESULTS["paper_scale"], "parts": dict.fromkeys("ab", PART)}))
    assert not any("whole training" in each.what for each in targets(read_results(folder, "h100")))


def test_the_summary_has_every_table_and_what_failed(folder):
    text = summarise(folder, OUTCOMES, machine="h100", dry_run=False)
    assert "| tests | failed: 1 failed | 61 |" in text
    assert "tests: 1 failed, 10 passed in 60.00s" in text
    assert "| the paper's whole training, partly extrapolated, minutes | 12.0 | at most 14.0 | yes |" in text
    assert "skipped: loading: it needs real files" in text
    assert "| encoder | kernel | convolutions | 1.000 | 1.0 |" in text
    assert "| ms a step, bfloat16 | fsn, encoder |" in text
    assert "needs 40.0 GiB on the device" in text
    assert text.rstrip().endswith("tests failed; it printed last:\nF.\n1 failed, 10 passed in 60.00s")
    assert "dry run" not in text
    assert "nothing about speed" in summarise(folder, OUTCOMES, machine="h100", dry_run=True)


def test_a_result_that_is_no_json_takes_no_other_along(folder):
    (folder / "search_h100.json").write_text('{"evaluation": ')
    text = summarise(folder, OUTCOMES, machine="h100", dry_run=False)
    assert "14,361 queries" not in text
    assert "| convolutions |" in text


def test_nothing_measured_is_a_summary_too(tmp_path):
    text = summarise(tmp_path, [Outcome("card", "killed at its limit", 45.0)], machine="h100", dry_run=False)
    assert "| card | killed at its limit | 45 |" in text


def test_the_summary_fits_at_the_end_of_a_log(folder):
    outcomes = [Outcome(str(n), "failed", 1.0, "why " * 200, ("x" * 200 + "\n") * 12) for n in range(20)]
    text = summarise(folder, outcomes, machine="h100", dry_run=False)
    assert len(text) <= LONGEST
    assert text.endswith("[cut short]")
    assert "12.0 | at most 14.0" in text  # figures come first
    assert shortened("x" * LONGEST, LONGEST) == "x" * LONGEST
