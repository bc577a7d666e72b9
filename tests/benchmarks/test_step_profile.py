import json

import numpy as np
import pytest

from benchmarks import step_profile


@pytest.mark.slow  # the dry run of on_gpu.sh runs it, too
def test_both_stages_are_reduced_to_kinds_of_work(tmp_path, capsys):
    result = step_profile.main(["--tiny", f"--out={tmp_path}"])
    assert json.loads((tmp_path / "profile_cpu.json").read_text())["stages"].keys() == {"encoder", "memory"}
    for stage in result["stages"].values():
        seconds = stage["seconds_per_step"]
        assert min(seconds["convolutions"], seconds["products"], seconds["optimizer"], seconds["input"]) > 0
        assert stage["flop_per_step"]["convolutions"] > 0
        assert 0 <= stage["input_wait"] <= 1
    # The second stage encodes 6 images a step, the first 4.
    flops = [stage["flop_per_step"]["convolutions"] for stage in result["stages"].values()]
    assert flops[1] == pytest.approx(6 / 4 * flops[0])
    assert "| convolutions |" in capsys.readouterr().out


@pytest.mark.slow  # the dry run of on_gpu.sh runs it, too
def test_the_stages_of_other_systems_are_told_apart(tmp_path):
    step_profile.main(["--tiny", "--systems", "fsn", "gamma", f"--out={tmp_path}"])
    stages = json.loads((tmp_path / "profile_systems_cpu.json").read_text())["stages"]
    assert list(stages) == ["fsn, encoder", "gamma, encoder", "gamma, memory"]
    assert not (tmp_path / "profile_cpu.json").exists()


@pytest.mark.long
@pytest.mark.parametrize(("system", "expected"), [("fsn", ("encoder",)), ("gamma", ("encoder", "memory"))])
def test_a_system_has_its_own_stages(system, expected):
    stages = step_profile.stages(step_profile.TINY, "float32", system)
    assert tuple(stages) == expected
    for stage, (_, state, batch) in stages.items():
        rows, targets = batch(0)
        images = {"encoder": 1, "memory": 3}[stage] * step_profile.TINY[f"{stage}_batch"]
        assert (len(rows), int(state.step)) == (images, 0)
        assert isinstance(targets, np.ndarray) == (stage == "encoder")


def test_achieved_rates_are_those_of_the_work_alone():
    measured = {
        "seconds_per_step": {"convolutions": 2.0, "products": 1.0, "other": 5.0},
        "flop_per_step": {"convolutions": 8.0, "products": 1.0},
    }
    rated = step_profile.rated(measured, 10.0)
    assert rated["flop_per_second"] == {"convolutions": 4, "products": 1}
    assert rated["of_matrix_rate"] == {"convolutions": 0.4, "products": 0.1, "both": 0.3}
    measured["seconds_per_step"] |= {"convolutions": 0.0, "products": 0.0}
    assert step_profile.rated(measured, 10.0)["of_matrix_rate"] == {}
