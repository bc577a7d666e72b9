import jax
import pytest
from ml_collections import ConfigDict

from configs import default
from gradrev_jax.errors import ConfigError
from gradrev_jax.runs.config_check import check

NAN = float("nan")
INVALID = {
    "precision": ["float16", ""],
    "data.format": ["csv"],
    "data.image_size": [62, -1],
    "data.workers": [-1],
    "data.cache_limit": [-1.0, NAN],
    "data.min_count": [0],
    "data.limit": [0, -1],
    "data.delimiter": [";;", '"', "\\n", " "],
    "model.tap": ["conv5"],
    "model.heads": ["many"],
    "model.feature_dim": [0],
    "model.logit_scale": [0.0, NAN, float("inf")],
    "model.width": [0.0, -1.0, 16.5, NAN],
    "model.dropout": [1.0, -0.1, NAN],
    "reversal.weighting": ["Balanced"],
    "reversal.beta": [-0.1, NAN],
    "reversal.scale": [NAN],
    "reversal.reach": ["far"],
    "reversal.adversaries": [-1],
    "reversal.adversary_target": ["chance"],
    "reversal.adversary_steps": [0],
    "reversal.adversary_rate": [-1.0, NAN],
    "seed": [-1],
    "data.train_resize": [10],
    "train.classification_weight": [-1.0, NAN],
    "train.batch_size": [0],
    "train.epochs": [0],
    "train.max_steps": [-1],
    "train.learning_rate": [-1e-4, NAN, float("inf")],
    "train.decay_rate": [-0.5, NAN],
    "train.decay_epochs": [0],
    "train.log_every": [0],
    "train.checkpoint_every": [-1],
    "protocol.ks": [(), (0,), (1, -5), (1.5,)],
    "protocol.num_references": [-1],
    "protocol.normalize": ["l2"],
    "protocol.batch_size": [0],
    "train.schedule": ["linear"],
    "train.warmup_steps": [-1],
    "train.weight_decay": [-1.0],
    "train.clip_norm": [0.0, NAN],
    "train.patience": [0],
    "train.attribute_triplet_weight": [-0.1],
    "train.label_triplet_weight": [NAN],
    "train.compactness_weight": [-1.0],
    "train.conditional_dependence_weight": [-1.0],
    "train.decorrelate": [0.5, -1.0, NAN, float("inf")],
    "train.triplet_margin": [-1.0],
    "memory.kinds": [(), ("replace",)],
    "memory.num_changes": [0],
    "protocol.kinds": [("swap", "drop")],
    "protocol.num_changes": [0],
    "protocol.strength": ["twice", "nan"],
    "protocol.weights": ["", "much", "1,-2", "1,nan", "color=2,1", "color=2,color=3", "color=", "1,inf"],
}


def put(config, field, value):
    *path, name = field.split(".")
    for part in path:
        config = config[part]
    config[name] = value


def named(error):
    """Fields that the message is about."""
    first, *problems = str(error.value).splitlines()
    assert first == "the config cannot be run:"
    return [problem.split()[0] for problem in problems]


def test_what_is_valid_passes(tiny_config):
    check(tiny_config)
    for field, value in {
        "data.image_size": 63,
        "model.width": 16.0,
        "data.delimiter": "tab",
        "model.dropout": 0.0,
        "reversal.beta": 0.0,
        "train.max_steps": 0,
        "protocol.ks": (1,),
    }.items():
        put(tiny_config, field, value)
    check(tiny_config)


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in INVALID.items() for value in values]
)
def test_an_invalid_field_is_named_with_its_value(tiny_config, field, value):
    put(tiny_config, field, value)
    with pytest.raises(ConfigError) as error:
        check(tiny_config)
    assert named(error) == [field]
    assert f"{field} = {value!r}: " in str(error.value)


def test_all_invalid_fields_are_named_at_once(tiny_config):
    for field, (value, *_) in INVALID.items():
        put(tiny_config, field, value)
    with pytest.raises(ConfigError) as error:
        check(tiny_config)
    assert sorted(named(error)) == sorted(INVALID)


def test_what_a_choice_may_be_is_listed(tiny_config):
    tiny_config.reversal.weighting = "on"
    with pytest.raises(ConfigError, match="reversal.weighting = 'on': one of balanced, fixed, schedule, off"):
        check(tiny_config)


def test_a_config_of_another_version_is_named(tiny_config):
    fields = tiny_config.to_dict()
    del fields["memory"]
    with pytest.raises(ConfigError, match=r"no field memory\.\w+; it was written for another version"):
        check(ConfigDict(fields))


def test_a_table_needs_a_root():
    config = default.get_config()
    with pytest.raises(ConfigError, match="data.root is not set"):
        check(config)
    config.data.root = "somewhere"
    check(config)


def test_a_tfds_data_set_needs_its_name():
    config = default.get_config()
    config.data.format = "tfds"
    with pytest.raises(ConfigError, match="data.tfds_name is not set: what TFDS calls"):
        check(config)
    config.data.tfds_name = "shapes3d"
    check(config)


@pytest.mark.parametrize("name", ["table", "tfds", "garments", "adde"])
def test_a_limit_is_for_the_formats_that_draw(tiny_config, name):
    tiny_config.data.update({"format": name, "root": "somewhere", "tfds_name": "shapes3d", "limit": 5})
    if name in ("table", "tfds"):
        check(tiny_config)
    else:
        with pytest.raises(ConfigError, match=r"data\.limit = 5: for data\.format=table or tfds alone"):
            check(tiny_config)


def test_a_seed_that_no_generator_takes():
    config = default.get_config()
    config.data.root = "images"
    config.seed = 2**63 - 1
    check(config)
    jax.random.key(config.seed)
    config.seed = 2**63
    with pytest.raises(ConfigError, match=r"seed = 9223372036854775808: at least 0 and below 2\*\*63"):
        check(config)


def test_adversaries_take_the_place_of_a_reversal_that_fits(tiny_config):
    tiny_config.reversal.adversaries = 3
    with pytest.raises(ConfigError, match="reversal.weighting = 'balanced': fixed or schedule, where"):
        check(tiny_config)
    tiny_config.reversal.weighting = "schedule"
    check(tiny_config)
    tiny_config.reversal.reach = "mlp"
    with pytest.raises(ConfigError, match="reversal.reach = 'mlp': backbone, where reversal.adversaries"):
        check(tiny_config)
