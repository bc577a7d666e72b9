"""Defines the systems and protocols after a config's name, as in ``configs/catalogue.py:cpu,adde_m``."""

from collections.abc import Callable, Mapping
from typing import TypeGuard

from ml_collections import ConfigDict

from gradrev_jax.errors import ConfigError

Change = Mapping[str, object] | Callable[[ConfigDict], None]
MODEL = "model.system"


def _adde_m(config: ConfigDict) -> None:
    """Chooses the system that the paper builds on (Hou et al., 2021), on any backbone."""
    if config.model.backbone == "alexnet":
        config.model.tap = "fc7"
    config.reversal.weighting = "off"
    config.train.update(
        {"classification_weight": 0.2, "attribute_triplet_weight": 0.2, "label_triplet_weight": 1.0}
    )


# The systems of Tables 4 and 7, and others.
SYSTEMS: dict[str, Change] = {
    # The paper's system: N classifiers read every feature, through the reversal.
    "shared": {"model.heads": "shared", "reversal.weighting": "balanced"},
    "pairwise": {"model.heads": "pairwise", "reversal.weighting": "balanced"},  # its N x N classifiers
    "no_reversal": {"reversal.weighting": "off"},  # Table 7: classifiers read only their own feature
    # Not in the paper: adversaries with an optimiser of their own, and features that are done at chance.
    "repaired": {"reversal.adversaries": 3, "reversal.weighting": "fixed", "reversal.beta": 0.3},
    "adde_m": _adde_m,  # triplet losses instead of the reversal
    # One feature for all attributes, and a memory that a learned layer works into it (Zhao et al., 2017).
    "amnet": {
        MODEL: "amnet",
        "reversal.weighting": "off",
        "memory.weights.semi_hard": 0.0,
        "memory.weights.consistency": 0.0,
        "memory.weights.off_block": 0.0,
    },
    # FashionSearchNet: each attribute is read inside a box of its own.
    "fsn": {
        MODEL: "fsn",
        "stages": ("encoder",),
        "reversal.weighting": "off",
        "train.attribute_triplet_weight": 1.0,
        "train.label_triplet_weight": 1.0,
        "protocol.representation": "features",
        "protocol.edit": "replace",
    },
    # After the abstract of GAMMA (Casula et al., 2024): Transformers edit the paper's features.
    "gamma": {
        MODEL: "gamma",
        "stages": ("encoder", "memory"),
        # For layers that start at random; no encoder is trained with them.
        "memory.learning_rate": 1e-3,
        "memory.epochs": 5,
        "protocol.representation": "features",
        "protocol.edit": "add",
        "protocol.strength": "1",
        "protocol.weights": "none",
    },
}

# What the evidence of docs/study.md recommends, on any backbone.
PRESETS: dict[str, Change] = {
    # For a shopper: what the classifiers say, edited by replacement, and how the garment looks.
    "search": {
        "reversal.weighting": "off",
        "data.missing": "value",
        "protocol.representation": "hybrid",
        "protocol.look": "0.5",
        "protocol.edit": "replace",
        "protocol.strength": "1.5",
        "protocol.weights": "none",
    },
    # Features that tell least of other attributes.
    "removed": {
        "reversal.weighting": "off",
        "protocol.representation": "discriminant",
        "protocol.normalize": "validation",
        "protocol.edit": "validation",
        "protocol.strength": "validation",
        "protocol.weights": "validation",
    },
    # The paper's representation, compared at what serves it best on the validation part.
    "tuned": {
        "data.missing": "ignore",
        "protocol.representation": "features",
        "protocol.normalize": "validation",
        "protocol.edit": "validation",
        "protocol.strength": "validation",
        "protocol.weights": "validation",
    },
}

# Training that is not of the paper, and needs no adversary (docs/method.md, "Beyond the paper").
VARIANTS: dict[str, Change] = {
    # Unit features that lie near their labels' classifiers.
    "compact": {
        "reversal.weighting": "off",
        "model.unit_features": True,
        "train.compactness_weight": 1.0,
    },
    # Unit features that tell nothing of other attributes beyond what their own label tells.
    "independent": {
        "reversal.weighting": "off",
        "model.unit_features": True,
        "train.conditional_dependence_weight": 10.0,
    },
    # Images weighted as if the labels of different attributes were independent.
    "decorrelated": {"reversal.weighting": "off", "train.decorrelate": 5.0},
}

PROTOCOLS: dict[str, Change] = {
    # The protocol of the literature: the best epoch is chosen on the test images, and the gallery contains
    # the query image itself.
    "paper": {
        "protocol.select_on_test": True,
        "protocol.normalize": "global",
        "protocol.exclude_query": False,
        "protocol.strength": "1",
        "protocol.weights": "none",
        "protocol.representation": "features",
        "protocol.edit": "add",
        "data.missing": "ignore",
        "train.validation_fraction": 0.0,
    },
    # Nothing is chosen on the test images, and finding the query image itself does not count as a success.
    "sane": {
        "protocol.select_on_test": False,
        "protocol.exclude_query": True,
        "protocol.strength": "validation",
    },
}

WORDS: dict[str, Change] = {**SYSTEMS, **VARIANTS, **PRESETS, **PROTOCOLS}


def apply(config: ConfigDict, arg: str | None, **own: Change) -> ConfigDict:
    """Applies the words after a config's name to the config, in their order.

    Args:
      config: the config, which is changed in place.
      arg: the words, separated by commas; None and "" change nothing, which is the system ``shared``.
      **own: the words that only this config knows.

    Raises:
      ConfigError: a word is unknown, or two words choose different models.
    """
    known = {**own, **WORDS}
    words = list(filter(None, (arg or "").split(",")))
    for word in words:
        if word not in known:
            raise ConfigError(f"unknown word {word!r} after the config's name; known: {', '.join(known)}")
    changes = [known[word] for word in words]
    models = {word: c[MODEL] for word, c in zip(words, changes, strict=True) if _chooses_model(c)}
    if len(set(models.values())) > 1:
        raise ConfigError(
            f"{' and '.join(models)} after the config's name are models apart; give one of them"
        )
    for change in changes:
        if callable(change):
            change(config)
        else:
            config.update_from_flattened_dict(change)
    return config


def _chooses_model(change: Change) -> TypeGuard[Mapping[str, object]]:
    return isinstance(change, Mapping) and MODEL in change
