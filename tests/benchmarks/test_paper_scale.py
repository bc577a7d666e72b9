import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import paper_scale
from gradrev_jax.models.convolution import convolve, is_worthwhile
from gradrev_jax.models.winograd import Geometry

PARTS = ["stage 1, encoder", "stage 2, memory", "prototypes", "gallery", "search", "metrics"]


@pytest.fixture
def measured(tmp_path):
    def measure(*flags):
        result = paper_scale.main(["--tiny", "--matrix=64", f"--out={tmp_path}", *flags])
        (file,) = tmp_path.glob("paper_scale_*.json")
        assert json.loads(file.read_text())["parts"] == result["parts"]
        return result

    return measure


STAGES = {"stage 1, encoder": 64 // 8, "stage 2, memory": 24 // 4}  # steps an epoch


@pytest.mark.slow  # the dry run of on_gpu.sh runs it, too
def test_a_few_steps_stand_for_all(measured, capsys):
    result = measured("--no-whole", "--steps=3")
    assert sorted(result["parts"]) == sorted(PARTS)
    assert not result["measured_whole"]
    for name, epoch in STAGES.items():
        part, details = result["parts"][name], result["parts"][name]["details"]
        assert part["how"] == "extrapolated from 3 steps"
        assert (details["steps"], details["measured_steps"]) == (25 * epoch, 3)
        assert details["step_seconds"]["count"] == 2  # the first has the compilation in it
        steps = details["steps"] * details["step_seconds"]["median"]
        checkpoints = 24 * details["checkpoint_seconds"]  # one was measured
        assert part["seconds"] == pytest.approx(details["seconds_besides_steps"] + steps + checkpoints)
    assert result["parts"]["prototypes"]["details"]["batches"] == 64 // 8
    assert result["parts"]["gallery"]["how"] == "extrapolated from 4 batches"
    assert result["parts"]["search"]["how"] == "measured"
    assert "extrapolated from 3 steps" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "all_of_it"), [("--seconds=0", False), ("--seconds=600", True)])
def test_as_many_steps_as_there_is_time_for(measured, seconds, all_of_it):
    result = measured(seconds, "--besides=0", "--steps=4", "--epochs=4")
    for name, epoch in STAGES.items():
        part, details = result["parts"][name], result["parts"][name]["details"]
        assert details["measured_steps"] == (4 * epoch if all_of_it else 4)
        assert part["how"] == ("measured" if all_of_it else "extrapolated from 4 steps")
        records = 4 * epoch - 2 if all_of_it else 3  # each start compiles, which no record of a step is about
        assert details["step_seconds"]["count"] == records
    assert result["measured_whole"] == all_of_it


@pytest.mark.parametrize(
    ("flags", "why"), [(("--whole", "--seconds=9"), "give one of them"), (("--steps=1",), "at least 2")]
)
def test_flags_that_contradict(flags, why, capsys):
    with pytest.raises(SystemExit):
        paper_scale.main(["--tiny", *flags])
    assert why in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_it_from_the_device(measured):
    flags = ("--placement=device", "--steps-per-call=2", "--precision=bfloat16", "--epochs=1")
    result = measured("--whole", *flags)
    assert {part["how"] for part in result["parts"].values()} == {"measured"}
    assert result["measured_whole"]
    assert result["seconds"] == pytest.approx(sum(part["seconds"] for part in result["parts"].values()))
    assert result["parts"]["stage 1, encoder"]["details"]["steps"] == 64 // 8


def test_flop_are_those_of_direct_convolutions():
    """By tiles they would be fewer, and in a loop, of which XLA counts one turn."""
    kernel = jnp.ones((3, 3, 32, 40))

    def update(state, images, targets):
        return convolve(images.astype(jnp.float32), kernel, (1, 1), [(0, 0)] * 2)

    stage = SimpleNamespace(
        update=update,
        begin=lambda: None,
        inputs=np.zeros((20, 11, 10, 32)),
        batch=lambda _: (np.arange(16), None),
    )
    assert is_worthwhile(jnp.zeros((16, 11, 10, 32)), kernel, Geometry(1, 0))
    assert paper_scale.step_flops(stage) == 2 * (16 * 9 * 8) * (3 * 3 * 32) * 40


def test_pixels_are_repeated(monkeypatch):
    monkeypatch.setattr(paper_scale, "DISTINCT", 3)
    pixels = paper_scale.random_pixels(8, 2)
    assert pixels.shape == (8, 2, 2, 3)
    np.testing.assert_array_equal(pixels[3:6], pixels[:3])
    np.testing.assert_array_equal(pixels[6:], pixels[:2])
    assert not (pixels[0] == pixels[1]).all()
