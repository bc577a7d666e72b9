"""Defines the systems and protocols after a config's name, as in ``configs/catalogue.py:cpu,adde_m``."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from gradrev_jax.errors import ConfigError

Change = Mapping[str, object] | Callable[[ConfigDict], None]


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
        "train.validation_fraction": 0.0,
    },
    # Nothing is chosen on the test images, and finding the query image itself does not count as a success.
    "sane": {
        "protocol.select_on_test": False,
        "protocol.exclude_query": True,
        "protocol.strength": "validation",
    },
}


def apply(config: ConfigDict, arg: str | None, **own: Change) -> ConfigDict:
    """Applies the words after a config's name to the config, in their order.

    Args:
      config: the config, which is changed in place.
      arg: the words, separated by commas; None and "" change nothing, which is the system ``shared``.
      **own: the words that only this config knows.

    Raises:
      ConfigError: a word is unknown.
    """
    known = {**own, **SYSTEMS, **PROTOCOLS}
    for word in filter(None, (arg or "").split(",")):
        if word not in known:
            raise ConfigError(f"unknown word {word!r} after the config's name; known: {', '.join(known)}")
        change = known[word]
        if callable(change):
            change(config)
        else:
            config.update_from_flattened_dict(change)
    return config
