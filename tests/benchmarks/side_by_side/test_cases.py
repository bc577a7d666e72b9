import pytest

from benchmarks.side_by_side import jax_side
from benchmarks.side_by_side.cases import (
    ATTRIBUTES,
    MIXED,
    NUM_VALUES,
    VARIANTS,
    attribute_sizes,
    plan,
    quick_plan,
    tiny,
)
from benchmarks.side_by_side.tables import KINDS


@pytest.mark.parametrize("num_attributes", [1, 7, *ATTRIBUTES, NUM_VALUES])
def test_values_are_shared_out_evenly(num_attributes):
    sizes = attribute_sizes(num_attributes)
    assert len(sizes) == num_attributes
    assert sum(sizes) == NUM_VALUES
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_plan_has_what_was_promised(device):
    cases = plan(device, repeats=5, photographs=True)
    steps = [case.sizes for case in cases if case.kind == "train_step"]
    assert {(size["image"], size["batch"]) for size in steps} == {
        (i, b) for i in (96, 224) for b in (32, 64, 128)
    }
    assert {size["attributes"] for size in steps if (size["image"], size["batch"]) == (224, 64)} == set(
        ATTRIBUTES
    )
    assert {case.kind for case in cases} == set(KINDS)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert {"gradrev_jax", "torch"} <= set(case.variants) <= set(VARIANTS)
        assert case.repeats >= 3
    variants = {name for case in cases for name in case.variants}
    assert "torch compile" in variants
    assert ("gradrev_jax bfloat16" in variants) == (device == "cuda")


def test_the_quick_plan_has_the_papers_sizes_and_every_batch_a_gpu_is_asked_for():
    cases = quick_plan(repeats=3)
    steps = {case.sizes["batch"]: case for case in cases if case.kind == "train_step"}
    assert list(steps) == [64, 128, 256]
    assert {case.sizes["image"] for case in cases} == {224}
    for case in cases:
        assert {"gradrev_jax", "gradrev_jax bfloat16", MIXED[1]} <= set(case.variants) <= set(VARIANTS)
        assert case.options["steps"] > 1
    assert set(steps[64].variants) == set(VARIANTS)


@pytest.mark.parametrize("make", [lambda photographs: plan("cpu", repeats=1, photographs=photographs), tiny])
def test_loading_needs_photographs(make):
    assert "loading" not in {case.kind for case in make(False)}
    assert "loading" in {case.kind for case in make(True)}


def test_both_sides_know_every_kind():
    pytest.importorskip("torch")
    from benchmarks.side_by_side import torch_side

    for side in (jax_side, torch_side):
        for kind in KINDS:
            assert callable(getattr(side, kind))


def test_on_a_gpu_torch_chooses_its_kernels_by_timing_them_as_xla_does():
    torch = pytest.importorskip("torch")
    from benchmarks.side_by_side import torch_side  # noqa: F401  # which sets it

    assert torch.backends.cudnn.benchmark
