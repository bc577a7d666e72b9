"""What holds for every system, whatever its name."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import variants
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import ConfigError
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.prototypes import prototype_shape
from gradrev_jax.runs import builders
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.fields.table import EARLIER_VALUES, FIELDS
from gradrev_jax.systems import registry
from gradrev_jax.systems.objective import ENCODER, MEMORY, Objective
from gradrev_jax.systems.registry import SYSTEMS
from gradrev_jax.systems.system import System

SCHEMA = AttributeSchema(("color", "size"), (("blue", "red", "green"), ("s", "m")))


@pytest.fixture(params=SYSTEMS)
def config(request, tiny_config):
    """The config that its word makes, with both stages where it has them."""
    if request.param in variants.SYSTEMS:
        variants.apply(tiny_config, request.param)
    assert tiny_config.model.system == request.param
    if SYSTEMS[request.param].second_stage is not None:
        tiny_config.stages = (ENCODER, MEMORY)
    return builders.with_defaults(tiny_config)


def test_its_word_makes_a_config_that_can_be_run(config):
    check(config)


def test_its_model_declares_what_it_computes(config):
    encoder = builders.build_encoder(config, SCHEMA)
    assert isinstance(encoder, Encoder)
    params = parameter_shapes(encoder, 64)
    assert "backbone" in params["params"], "where pretrained weights go"
    blocks, d, j = encoder.blocks, encoder.feature_dim, encoder.classes.num_values
    assert len(blocks.of_attribute) == SCHEMA.num_attributes
    inputs = encoder.inputs.example(64)
    output = jax.eval_shape(encoder.apply, params, inputs)
    assert (output.features.shape, output.logits.shape) == ((1, blocks.count, d), (1, blocks.count, j))
    described = jax.eval_shape(lambda p, x: encoder.apply(p, x, method="full_output"), params, inputs)
    assert (described.features, described.logits) == (output.features, output.logits)
    logits = jax.eval_shape(lambda p, f: encoder.apply(p, f, method="classify"), params, output.features)
    assert logits == output.logits


@pytest.mark.long
def test_its_stages_have_objectives_and_a_template(config):
    system, encoder = builders.system_of(config), builders.build_encoder(config, SCHEMA)
    labels = np.array([[0, 1], [2, -1]], np.int32)
    assert isinstance(system.encoder_objective(config, encoder, labels), Objective)
    if system.second_stage is None:
        return
    assert isinstance(system.second_stage.objective(config, encoder), Objective)
    shapes = builders.second_stage_shapes(config, encoder)
    begun = system.second_stage.begin(config, encoder, jax.numpy.zeros(prototype_shape(encoder).shape))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), begun) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    edit = builders.learned_edit(config, encoder, MEMORY)
    if edit is None:
        assert shapes == prototype_shape(encoder)
        return
    tree = {ENCODER: parameter_shapes(encoder, 64), MEMORY: shapes}
    features = jax.ShapeDtypeStruct((3, encoder.blocks.count, encoder.feature_dim), np.float32)
    indicators = jax.ShapeDtypeStruct((3, SCHEMA.num_values), np.int32)
    assert jax.eval_shape(edit, tree, features, indicators).shape == features.shape


def test_its_fields_stand_in_its_section_and_say_what_earlier_runs_had(config):
    name = config.model.system
    for field in SYSTEMS[name].fields:
        assert f"{name}.{field}" in FIELDS
        assert f"{name}.{field}" in EARLIER_VALUES


def test_a_system_without_a_second_stage_has_none_in_its_config(tiny_config, monkeypatch):
    system = SYSTEMS["gradrev"]
    alone = System(meaning="x", build=system.build, encoder_objective=system.encoder_objective)
    monkeypatch.setitem(registry.SYSTEMS, "gradrev", alone)
    check(tiny_config)
    tiny_config.stages = (ENCODER, MEMORY)
    with pytest.raises(ConfigError, match="because the system 'gradrev' has no stage 2"):
        check(tiny_config)


def test_the_smallest_image_is_that_of_the_system_or_else_of_the_backbone(tiny_config, monkeypatch):
    tiny_config.model.backbone = "alexnet"
    tiny_config.data.image_size = 62
    with pytest.raises(ConfigError, match="data.image_size = 62: at least 63"):
        check(tiny_config)
    tiny_config.data.train_resize = None
    for least in (60, 100):
        system = dataclasses.replace(SYSTEMS["gradrev"], smallest_image=least)
        monkeypatch.setitem(registry.SYSTEMS, "gradrev", system)
        tiny_config.data.image_size = least
        check(tiny_config)
        tiny_config.data.image_size = least - 1
        with pytest.raises(ConfigError, match=f"data.image_size = {least - 1}: at least {least}"):
            check(tiny_config)


def test_a_reversal_without_an_encoder_to_train_is_refused_before_training_alone(tiny_config):
    tiny_config.stages = (ENCODER, MEMORY)
    tiny_config.memory.update({"reversal": True, "freeze_encoder": True})
    check(tiny_config)  # as an evaluation does
    catalogue = builders.open_catalogue(tiny_config)
    encoder = builders.build_encoder(tiny_config, catalogue.schema)
    with pytest.raises(ConfigError, match="memory.reversal = True: False where memory.freeze_encoder is set"):
        builders.objectives(tiny_config, encoder, catalogue.labels)
    for field in ("reversal", "freeze_encoder"):
        tiny_config.memory[field] = False
        builders.objectives(tiny_config, encoder, catalogue.labels)
        tiny_config.memory[field] = True
    tiny_config.stages = (ENCODER,)
    builders.objectives(tiny_config, encoder, catalogue.labels)


def test_an_unknown_system_is_named_with_those_that_are_there(tiny_config):
    tiny_config.model.system = "amnett"
    with pytest.raises(
        ConfigError, match="model.system = 'amnett': one of gradrev, amnet.*did you mean amnet"
    ):
        check(tiny_config)
