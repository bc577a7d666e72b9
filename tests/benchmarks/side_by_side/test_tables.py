import pytest

from benchmarks.side_by_side.tables import (
    ROOT,
    convolutions_table,
    costs,
    filled,
    poolings_table,
    speeds,
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


def test_tables_have_their_places():
    text = "a\n<!-- one -->\nold\nolder\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\n"
    expected = "a\n<!-- one -->\n1\n<!-- end -->\nb\n<!-- two -->\n2\n<!-- end -->\n"
    assert filled(text, {"one": "1", "two": "2", "three": "3"}) == expected


@pytest.mark.parametrize("name", ["README.md", "docs/design.md", "docs/results.md", "docs/scaling.md"])
def test_what_is_written_is_what_was_measured(name):
    """Else: python -m benchmarks.side_by_side.tables."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "_cpu" in text, "it has tables"
    assert with_results(ROOT / name) == text
