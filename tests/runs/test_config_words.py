import pytest

from gradrev_jax.runs.config_words import describe_config


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "N classifiers, balanced reversal"),
        ({"model.heads": "pairwise"}, "N x N classifiers, balanced reversal"),
        ({"reversal.weighting": "off"}, "N classifiers, no reversal"),
        (
            {"reversal.weighting": "off", "train.label_triplet_weight": 1.0},
            "N classifiers, no reversal, triplet losses",
        ),
        (
            {
                "model.unit_features": True,
                "train.compactness_weight": 1.0,
                "train.conditional_dependence_weight": 3.0,
                "train.decorrelate": 5.0,
            },
            "N classifiers, balanced reversal, unit features, compact classes, conditional independence, "
            "decorrelated labels",
        ),
        ({"stages": ["encoder", "memory"]}, "N classifiers, balanced reversal, memory fine-tuned"),
        ({"model.system": "gradrev"}, "N classifiers, balanced reversal"),
        (
            {"model.system": "amnet", "reversal.weighting": "off", "stages": ["encoder", "memory"]},
            "amnet, edit learned",
        ),
        (
            {"model.system": "fsn", "reversal.weighting": "off", "train.label_triplet_weight": 1.0},
            "fsn, triplet losses",
        ),
        (
            {"model.system": "gamma", "stages": ["encoder", "memory"]},
            "gamma, N classifiers, balanced reversal, edit learned",
        ),
        ({"model.system": "of a plugin"}, "of a plugin, N classifiers, balanced reversal"),
    ],
)
def test_a_config_in_words(fields, words):
    config = {"model.heads": "shared", "reversal.weighting": "balanced", "stages": ["encoder"], **fields}
    assert describe_config(config) == words
    alone = describe_config(config, prototypes_alone=True)
    assert "fine-tuned" not in alone
    assert "learned" not in alone
