import pytest

from gradrev_jax.errors import ConfigError
from gradrev_jax.runs.overrides import override, override_movable


def test_overrides_are_checked(tiny_config):
    override(tiny_config, "protocol", {"ks": (3,), "exclude_query": True})
    assert tiny_config.protocol.ks == (3,)
    with pytest.raises(ConfigError, match="protocol has no field 'exclude_qery'; it has"):
        override(tiny_config, "protocol", {"exclude_qery": True})
    with pytest.raises(ConfigError, match="protocol.ks = '5': "):
        override(tiny_config, "protocol", {"ks": "5"})


def test_only_where_a_catalogue_lies_may_change_after_training(tiny_config):
    override_movable(tiny_config, {"root": "/new", "workers": 2})
    assert (tiny_config.data.root, tiny_config.data.workers) == ("/new", 2)
    with pytest.raises(
        ConfigError, match="data.image_size belongs to the run .*; what may be: .*data.root, "
    ):
        override_movable(tiny_config, {"image_size": 65})
    with pytest.raises(ConfigError, match="data has no field 'rot'"):
        override_movable(tiny_config, {"rot": "/new"})


def test_a_number_may_stand_for_the_words_of_a_field(tiny_config):
    override(tiny_config, "protocol", {"strength": 0.5})
    assert tiny_config.protocol.strength == "0.5"
