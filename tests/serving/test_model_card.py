import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from configs import variants
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.spaces import Fitted
from gradrev_jax.evaluation.searching import Way
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION
from gradrev_jax.models.interface import Encoder
from gradrev_jax.runs import builders
from gradrev_jax.serving.hub_metadata import RETRIEVAL, CardChoices
from gradrev_jax.serving.model_card import Card, write_card
from gradrev_jax.serving.space import SearchSpace
from gradrev_jax.systems.registry import SYSTEMS


@pytest.fixture
def write(tiny_config, tmp_path):
    """Writes the card of a system's run that was not evaluated; returns its text."""

    def write_one(system, encoder=None, weights=None, metrics=None):
        if system in variants.SYSTEMS:
            variants.apply(tiny_config, system)
        config = builders.with_defaults(tiny_config)
        catalogue = builders.open_catalogue(config)
        encoder = encoder or builders.build_encoder(config, catalogue.schema)
        run = SimpleNamespace(encoder=encoder, step=1, catalogue=catalogue)
        schema = catalogue.schema
        fitted = Fitted(np.zeros((schema.num_values, 6, 1)), np.zeros((6, 1)))
        way = Way("none", "replace", 1.5, weights)
        space = SearchSpace(schema, "ignore", "hybrid", fitted, way, 0.5, np.ones(6, np.float32))
        path = tmp_path / "README.md"
        write_card(path, Card("mine", run, space, config.to_dict(), metrics, (), CardChoices()))
        return path.read_text(encoding="utf-8")

    return write_one


def test_a_card_without_numbers_says_what_is_compared_too(write):
    said = (
        "Compared are the square roots of the class probabilities, and the backbone's embedding "
        "(representation `hybrid`, look 0.5, normalisation `none`). The edit is `replace`, at strength 1.5."
    )
    assert f"\n{said}\n" in write("gradrev")
    weighted = write("gradrev", weights=np.array([2, 1, 1, 1, 1, 0.5, 0.25]))
    assert f"{said} Weights of the attributes in the distance: category 2, color 1, " in weighted
    assert ", sleeve 0.5, rest 0.25.\n" in weighted


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_card_describes_the_system_that_was_trained(write, system):
    text = write(system)
    assert SYSTEMS[system].meaning in text
    own = "describes an image by a feature of 4 numbers for each attribute"
    if system == "amnet":
        assert "describes an image by one feature of 1,024 numbers, which all attributes are read" in text
    assert (own in text) == (system != "amnet")


def test_a_card_describes_any_blocks_that_a_model_declares(write):
    class Shared(Encoder):
        blocks = FeatureBlocks((0, 1, 1, 0, 1, 1), 3)

    text = write("gradrev", Shared(schema=None, feature_dim=2048))
    assert "3 features of 2,048 numbers, of which each attribute is read from one." in text


def test_a_system_of_ones_own_is_described_by_its_own_words(write, monkeypatch):
    mine = dataclasses.replace(SYSTEMS["gradrev"], meaning="a system of my own")
    monkeypatch.setitem(SYSTEMS, "gradrev", mine)
    assert "System: a system of my own (" in write("gradrev")


def test_an_attribute_without_a_labelled_test_image_has_its_row(write):
    names = ("category", "color", "length", "neckline", "sleeve")
    by_k = {"5": 0.5}
    accuracy = {"macro": 0.75, "micro": 0.75, "per_attribute": dict.fromkeys(names, 0.75)}
    metrics = {
        **dict.fromkeys(RETRIEVAL, by_k),
        **dict.fromkeys(("attribute_accuracy", "majority_accuracy"), accuracy),
        **dict.fromkeys(("queries", "gallery"), 30),
        "baselines": {NO_MANIPULATION: {"hit_rate": by_k}},
        "intervals": {
            **{name: {"5": (0.25, 0.75)} for name in RETRIEVAL},
            "confidence": 0.95,
            "attribute_accuracy": dict.fromkeys(("macro", "micro"), (None, None)),
        },
    }
    text = write("gradrev", metrics=metrics)
    neckline, pattern = "| neckline | 75.00 | 75.00 |", "| pattern | – | – |"
    assert f"{neckline}\n{pattern}\n| sleeve | 75.00 | 75.00 |\n| macro |" in text
    assert "\n–: no labelled test image; the means are of the other attributes.\n" in text
    accuracy["per_attribute"]["pattern"] = 0.25
    assert "no labelled test image" not in write("gradrev", metrics=metrics)
