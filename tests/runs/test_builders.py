import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, VALIDATION
from gradrev_jax.errors import ConfigError
from gradrev_jax.models.backbones import BACKBONES
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.runs import builders
from gradrev_jax.runs.protocol import build_protocol, queries_of
from gradrev_jax.systems import gradrev
from gradrev_jax.systems.objective import Objective
from gradrev_jax.systems.registry import SYSTEMS

SCHEMA = AttributeSchema(("color",), (("blue", "red"),))


def test_a_catalogue_is_opened_with_its_validation_part_held_out(tiny_config):
    parts = builders.open_catalogue(tiny_config).parts
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 32, "validation": 4, "test": 24}


def test_correlation_ties_what_is_trained_on_and_leaves_the_test_as_it_is(tiny_config):
    tiny_config.data.count = 400
    catalogues = []
    for correlation in (0.0, 0.5, 0.9):
        tiny_config.data.correlation = correlation
        catalogues.append(builders.open_catalogue(tiny_config))
    for part in PARTS:
        assert all((catalogue.parts[part] == catalogues[0].parts[part]).all() for catalogue in catalogues[1:])
    shares = [
        (labels[:, 0] == labels[:, 1]).mean()  # as the first six colours follow the six categories
        for labels in (catalogue.part_labels(TRAIN, VALIDATION) for catalogue in catalogues)
    ]
    assert shares == pytest.approx([share + (1 - share) / 8 for share in (0.0, 0.5, 0.9)], abs=0.08)
    plain, *tied = ([each.images.digest(int(row)) for row in each.rows(TEST)] for each in catalogues)
    assert all(digests == plain for digests in tied)
    queries = [queries_of(each, TEST, build_protocol(tiny_config), 0) for each in catalogues]
    assert all((each.targets == queries[0].targets).all() for each in queries)


@pytest.mark.parametrize("strengths", [((1, 2), (3,)), ((1.0, "x"),), ((1.0,),), ((float("nan"),) * 6,) * 6])
def test_a_strength_matrix_must_be_n_by_n_numbers(tiny_config, strengths):
    schema = builders.open_catalogue(tiny_config).schema
    assert gradrev.reversal_scale(tiny_config, schema) == 1.0
    tiny_config.reversal.strengths = strengths
    with pytest.raises(ConfigError, match=r"reversal\.strengths"):
        gradrev.reversal_scale(tiny_config, schema)


def test_strengths_multiply_the_scale(tiny_config):
    tiny_config.reversal.scale = 0.5
    tiny_config.reversal.strengths = tuple(tuple(range(n, n + 6)) for n in range(6))
    scale = gradrev.reversal_scale(tiny_config, builders.open_catalogue(tiny_config).schema)
    assert scale[1].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_every_field_of_the_encoder_comes_from_the_config(tiny_config, monkeypatch):
    monkeypatch.setitem(BACKBONES, "other", BACKBONES["alexnet"])
    changed = {
        "backbone": "other",
        "feature_dim": 7,
        "tap": "fc7",
        "width": 0.25,
        "dropout": 0.125,
        "heads": "pairwise",
        "unit_features": True,
        "logit_scale": 7.0,
    }
    tiny_config.model.update({**changed, "pretrained": "imagenet"})
    tiny_config.reversal.reach = "mlp"
    tiny_config.data.missing = "value"
    tiny_config.precision = "bfloat16"
    encoder = builders.build_encoder(tiny_config, SCHEMA)
    kept = {"reach": "mlp", "schema": SCHEMA, "dtype": jnp.bfloat16, "frozen_statistics": True}
    expected = {**changed, **kept, "missing": "value"}
    fields = {field.name: field.default for field in dataclasses.fields(AttributeEncoder)}
    assert set(fields) - {"parent", "name"} == set(expected), "a new field needs a line here"
    assert {name: getattr(encoder, name) for name in expected} == expected
    assert not {name for name in expected if fields[name] == expected[name]}, "told from their defaults"


@pytest.mark.parametrize(
    ("tap", "freeze", "expected"),
    [("levels", True, "balanced"), ("pooled", True, None), ("levels", False, "levels"), (None, True, None)],
)
def test_numbers_of_several_layers_are_balanced_where_the_network_is_frozen(
    tiny_config, tap, freeze, expected
):
    tiny_config.model.update({"backbone": "efficientnet_lite0", "tap": tap, "freeze_backbone": freeze})
    encoder = builders.build_encoder(tiny_config, SCHEMA)
    assert encoder.tap == expected
    assert encoder.backbone == ("embeddings" if freeze else "efficientnet_lite0")


def test_runs_of_several_seeds_may_share_all_that_is_drawn_of_the_catalogue(tiny_config):
    tiny_config.protocol.num_references = 3

    def drawn(seed, data_seed):
        tiny_config.seed, tiny_config.data.seed = seed, data_seed
        catalogue = builders.open_catalogue(tiny_config)
        protocol = build_protocol(tiny_config)
        queries = queries_of(catalogue, TEST, protocol, builders.data_seed(tiny_config))
        return catalogue.labels.tolist(), catalogue.parts[VALIDATION].tolist(), queries.reference.tolist()

    assert drawn(0, None) == drawn(7, 0)
    for one, other in zip(drawn(0, None), drawn(7, None), strict=True):
        assert one != other


def test_adversaries_are_refused_where_a_system_has_an_objective_of_its_own(tiny_config, monkeypatch):
    class Own(Objective):
        def loss(self, encoder, params, inputs, targets, context):
            raise NotImplementedError

    own = dataclasses.replace(gradrev.SYSTEM, encoder_objective=lambda config, encoder, labels: Own())
    monkeypatch.setitem(SYSTEMS, "own", own)
    tiny_config.model.system, labels = "own", np.zeros((4, 1), np.int32)
    encoder = builders.build_encoder(tiny_config, SCHEMA)
    assert isinstance(builders.objectives(tiny_config, encoder, labels)["encoder"], Own)
    tiny_config.reversal.adversaries = 2
    with pytest.raises(ConfigError, match="adversaries = 2: the system 'own' has an objective of its own"):
        builders.objectives(tiny_config, encoder, labels)


def test_a_term_that_is_registered_after_the_fields_were_made_has_no_weight(tiny_config, monkeypatch):
    monkeypatch.setitem(TERMS, "new", next(iter(TERMS.values())))
    encoder = builders.build_encoder(tiny_config, SCHEMA)
    objective = gradrev.encoder_objective(tiny_config, encoder, np.zeros((4, 1), np.int32))
    assert "new" not in objective.term_weights
