r"""Compares with ADDE-M's own code: the same splits, budget and protocol at 96 px, from random weights.

    python train.py --config=configs/adde_peer.py:adde_m --config.data.root=IMAGES \
        --config.data.splits=SPLITS --workdir=runs/peer_adde_m
    python evaluate.py --workdir=runs/peer_adde_m

10 encoder epochs at batch 128, then 2 fine-tuning epochs at batch 64 over the first 18,000 triplets; the
best epoch is chosen on the test part, as ADDE does. Without a word after the config's name, the paper's
system is trained with the same fine-tuning. The results are in docs/results.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; a word of ``configs/variants.py`` picks the system."""
    config = default.get_config()
    config.stages = ("encoder", "memory")
    config.data.format = "adde"
    config.data.image_size = 96
    config.data.train_resize = 104
    config.train.epochs = 10
    config.memory.triplets = 18000
    variants.apply(config, "paper")
    return variants.apply(config, arg)
