import pytest

from benchmarks.training_runs import later_epochs


@pytest.mark.slow
def test_the_first_epoch_is_left_out(tiny_config):
    tiny_config.train.log_every = 1
    fields = {"train.steps_per_call": 2}
    run = later_epochs(tiny_config, fields)
    steps = 36 - round(0.1 * 36)
    assert run["fields"] == fields
    assert run["images_per_second"]["count"] == steps // 8 // 2
    assert 0 <= run["input_wait"]["least"] <= run["input_wait"]["most"] <= 1
    assert tiny_config.train.steps_per_call == 1
