"""Words after a config's name, as ``configs/catalogue.py:cpu,adde_m``: systems and protocols."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from gradrev_jax.errors import ConfigError

Change = Mapping[str, object] | Callable[[ConfigDict], None]

# The systems of Tables 4 and 7.
SYSTEMS: dict[str, Change] = {
    "shared": {},  # the paper's: N classifiers read every feature, through the reversal
    "pairwise": {"model.heads": "pairwise"},  # its N x N classifiers
    "no_reversal": {"reversal.weighting": "off"},  # Table 7: classifiers read their own feature alone
    "adde_m": {  # the system that the paper builds on (Hou et al., 2021)
        "model.tap": "fc7",
        "reversal.weighting": "off",
        "train.classification_weight": 0.2,
        "train.attribute_triplet_weight": 0.2,
        "train.label_triplet_weight": 1.0,
    },
}

PROTOCOLS: dict[str, Change] = {
    # The numbers of the literature: the best epoch on the test images, and the query among the gallery.
    "paper": {
        "protocol.select_on_test": True,
        "protocol.normalize": "global",
        "protocol.exclude_query": False,
        "protocol.strength": "1",
        "train.validation_fraction": 0.0,
    },
    # Nothing is chosen on the test images, and finding the query itself is no success.
    "sane": {
        "protocol.select_on_test": False,
        "protocol.exclude_query": True,
        "protocol.strength": "validation",
    },
}


def apply(config: ConfigDict, arg: str | None, **own: Change) -> ConfigDict:
    """Apply words with commas between them, in their order.

    Args:
      config: is changed.
      arg: the words; None or "" changes nothing, which is ``shared``.
      **own: words of this config alone.

    Raises:
      ConfigError: a word that is not known.
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
