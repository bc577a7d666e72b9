from gradrev_jax.systems.objective import ENCODER, STAGES
from gradrev_jax.training.stages import STAGE_BUILDERS, last_step


def test_a_stage_ends_after_its_epochs_or_earlier(tiny_config):
    tiny_config.train.epochs = 3
    assert last_step(tiny_config, ENCODER, 7) == 21
    tiny_config.train.max_steps = 5
    assert last_step(tiny_config, ENCODER, 7) == 5
    tiny_config.train.max_steps = 100
    assert last_step(tiny_config, ENCODER, 7) == 21


def test_there_is_a_stage_for_every_name_that_a_config_may_have():
    """Each is tested through test_run.py."""
    assert set(STAGE_BUILDERS) == set(STAGES)
