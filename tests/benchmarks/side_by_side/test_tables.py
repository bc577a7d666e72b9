import re

import pytest

from benchmarks.side_by_side.tables import (
    ROOT,
    card_table,
    convolutions_table,
    costs,
    filled,
    kernels_table,
    many_embeddings_table,
    poolings_table,
    profile_table,
    search_table,
    speeds,
    startup_table,
    with_results,
)


def result(seconds, units=100):
    return {
        "median_seconds": seconds,
        "least_seconds": seconds / 2,
        "most_seconds": seconds * 2,
        "units": units,
        "units_per_second": units / seconds,
        "seconds_to_first": 12.34,
        "peak_memory_gib": 1.5,
    }


CASES = [
    {
        "kind": "train_step",
        "sizes": {"image": 96, "batch": 32, "attributes": 12},
        "unit": "images",
        "results": {"gradrev_jax": result(2), "torch": result(4), "torch compile": result(1)},
    },
    {
        "kind": "evaluation",
        "sizes": {"gallery": 20000, "dim": 340},
        "unit": "queries",
        "results": {"gradrev_jax": result(0.01)},
    },
]


def test_speeds():
    assert speeds(CASES).splitlines() == [
        "| per second | gradrev_jax | torch | torch compile | ours / torch | ours / its best |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| train step, 96 px, batch 32, N = 12 (images) | 50.0 [25.0, 100] | 25.0 [12.5, 50.0] "
        "| 100 [50.0, 200] | 2.00 | 0.50 |",
        "| evaluation, 20,000 images (queries) | 10,000 [5,000, 20,000] |  |  |  |  |",
    ]


def test_costs():
    assert costs(CASES).splitlines()[2:] == [
        "| train step, 96 px, batch 32, N = 12 (images) | 12.3; 1.50 | 12.3; 1.50 | 12.3; 1.50 |",
        "| evaluation, 20,000 images (queries) | 12.3; 1.50 |  |  |",
    ]


def one_pass(ours, plain):
    sides = {
        name: {**result(seconds), "gflop_per_second": 1 / seconds}
        for name, seconds in (("gradrev_jax", ours), ("plain", plain))
    }
    return {**sides, "times_faster": plain / ours}


LAYERS = {
    "sizes": {"image": 224, "batch": 64},
    "convolutions": [
        {"layer": "conv1", "tiles": True, "passes": {"forward": one_pass(0.01, 0.04)}},
        {"layer": "conv2", "tiles": False, "passes": {"kernel's gradient": one_pass(0.02, 0.01)}},
    ],
    "poolings": [{"layer": "pool1", "passes": {"gradient": one_pass(0.002, 0.003)}}],
}


def test_layers():
    assert convolutions_table(LAYERS).splitlines() == [
        "| convolution, 224 px, batch 64 | tiles | gradrev_jax, ms | plain, ms | gradrev_jax, GFLOP/s "
        "| plain, GFLOP/s | times faster |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| conv1, forward | yes | 10.0 [5.0, 20.0] | 40.0 [20.0, 80.0] | 100 | 25 | 4.00 |",
        "| conv2, kernel's gradient | no | 20.0 [10.0, 40.0] | 10.0 [5.0, 20.0] | 50 | 100 | 0.50 |",
    ]
    assert poolings_table(LAYERS).splitlines() == [
        "| pooling, 224 px, batch 64 | gradrev_jax, ms | flax.linen.max_pool, ms | times faster |",
        "| --- | ---: | ---: | ---: |",
        "| pool1, gradient | 2.0 [1.0, 4.0] | 3.0 [1.5, 6.0] | 1.50 |",
    ]


def test_many_embeddings():
    run = {
        "rows": 2**20,
        "peak_bytes": 2**31,
        "peak_anonymous_bytes": 2**30,
        "peak_file_bytes": 2**29,
        "opening_seconds": 61.4,
        "step_seconds": 0.0582,
    }
    table = many_embeddings_table({"sizes": {"width": 1024, "batch": 128}, "runs": [run]})
    assert table.splitlines() == [
        "| embeddings of 1,024 numbers, batch 128 | file, GiB | peak resident, GiB | anonymous | of files "
        "| opening, s | ms a step |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 1,048,576 images | 4.00 | 2.00 | 1.00 | 0.50 | 61 | 58 |",
    ]


def test_tables_have_their_places():
    text = "a\n<!-- one -->\nold\nolder\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\n"
    expected = "a\n<!-- one -->\n1\n<!-- end -->\nb\n<!-- two -->\n2\n<!-- end -->\n"
    assert filled(text, {"one": "1", "two": "2", "three": "3"}) == expected


def spread(median, form="{}"):
    parts = {"median": median, "least": median / 2, "most": 2 * median}
    return {form.format(which): value for which, value in parts.items()}


def test_a_card():
    result = {
        "card": "NVIDIA H100 80GB HBM3",
        "memory_gib": 79.6,
        "driver": "580.159.04",
        "versions": {"jax": "0.11.2", "numpy": "2.5.2", "torch": "2.11.0"},
        "sizes": {"matrix": 8192},
        "matrix_flop_per_second": {"bfloat16": spread(790e12)},
        "copy_bytes_per_second": spread(3e12),
        "transfer_bytes_per_second": spread(12.5e9),
        "calls_per_second": spread(20_000.0),
    }
    assert card_table(result).splitlines() == [
        "| NVIDIA H100 80GB HBM3, 80 GiB, driver 580.159.04, jax 0.11.2, torch 2.11.0 "
        "| median [least, most] |",
        "| --- | ---: |",
        "| products of 8,192 x 8,192, bfloat16, TFLOP/s | 790.0 [395.0, 1,580.0] |",
        "| copy in its memory, GB/s | 3,000.0 [1,500.0, 6,000.0] |",
        "| from the host, GB/s | 12.5 [6.2, 25.0] |",
        "| programs that do nothing, a second | 20,000 [10,000, 40,000] |",
    ]


PROFILE = {
    "precision": "bfloat16",
    "stages": {
        "encoder": {
            "seconds_per_step": {"convolutions": 2e-3, "other": 0.5e-3, "idle": 1e-4},
            "span_per_step": 2.6e-3,
            "wall_seconds_per_step": 2.7e-3,
            "input_wait": 0.0123,
            "of_matrix_rate": {"convolutions": 0.51, "both": 0.46},
            "kernels": [
                {"name": "a" * 70, "kind": "convolutions", "seconds": 1e-3, "times": 1.0},
                {"name": "second", "kind": "other", "seconds": 5e-4, "times": 2.5},
            ],
        }
    },
}


def test_a_profile():
    assert profile_table(PROFILE).splitlines() == [
        "| ms a step, bfloat16 | encoder |",
        "| --- | ---: |",
        "| convolutions | 2.00 (51% of the matrix rate) |",
        "| other | 0.50 |",
        "| idle | 0.10 |",
        "| first to last work | 2.60 |",
        "| wall clock | 2.70 |",
        "| waiting for input | 1.23% |",
        "| convolutions and products, of the matrix rate | 46% |",
    ]
    assert kernels_table(PROFILE, most=1).splitlines()[2:] == [
        f"| encoder | {'a' * 60} | convolutions | 1.000 | 1.0 |"
    ]
    assert kernels_table(PROFILE).splitlines()[-1] == "| encoder | second | other | 0.500 | 2.5 |"


def test_a_search():
    times = {**spread(0.0005, "{}_seconds"), "p99_seconds": 0.0009}
    result = {
        "evaluation": {"sizes": {"queries": 14_361, "gallery": 20_000, "dim": 340}, "gradrev_jax": times},
        "evaluation_run": {
            "sizes": {"queries": 16, "gallery": 1_600, "blocks": 6, "dim": 340},
            "gradrev_jax": times,
        },
        "one_more_manipulation": [
            {"rows": 1_000_000, "width": 4_080, "gradrev_jax": times, "torch on the GPU": times},
            {"rows": 9, "width": 12, "skipped": "needs 40.0 GiB"},
        ],
    }
    shown = "0.50 [0.25, 1.00] | 0.90 |"
    assert search_table(result).splitlines()[2:] == [
        f"| 14,361 queries, 20,000 x 4,080, index included | gradrev_jax | {shown}",
        f"| 16 queries of a run, 1,600 x 2,040, index included | gradrev_jax | {shown}",
        f"| one more manipulation, 1,000,000 x 4,080 | gradrev_jax | {shown}",
        f"| one more manipulation, 1,000,000 x 4,080 | torch on the GPU | {shown}",
        "| one more manipulation, 9 x 12 | skipped | needs 40.0 GiB |  |",
    ]


def test_starts_stand_beside_torchs_where_it_was_there():
    spread = {"median": 4.0, "least": 3.0, "most": 5.06, "count": 3}
    result = {
        "seconds": {
            "train": dict.fromkeys(("first", "second", "torch"), spread),
            "demo": {"first": spread},
            "evaluate_again": {"second": spread},
        }
    }
    shown = "4.0 [3.0, 5.1]"
    rows = [line.split(" | ") for line in startup_table(result).splitlines()[2:]]
    titles = [row[0].split(",")[0] for row in rows]
    assert titles == ["| `train.py`", "| the training of `make demo`", "| the same"]
    assert [row[1:] for row in rows] == [[shown, shown, f"{shown} |"], [shown, "", " |"], ["", shown, " |"]]


DOCUMENTS = tuple(f"docs/{name}.md" for name in ("design", "gpu", "results", "scaling"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_written_is_what_was_measured(name):
    """Else: python -m benchmarks.side_by_side.tables."""
    text = (ROOT / name).read_text(encoding="utf-8")
    places = re.findall(r"<!-- (\w[\w ]*) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert places, "it has tables"
    for place, content in places:
        is_measured = (ROOT / "benchmarks" / "results" / f"{place.split()[0]}.json").is_file()
        assert (content.strip() != "not measured yet") == is_measured, place
    assert with_results(ROOT / name) == text
