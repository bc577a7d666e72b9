r"""Trains on DeepFashion's images for attribute prediction, as ADDE splits them.

    python train.py --config=configs/deepfashion.py --config.data.root=IMAGES \
        --config.data.splits=SPLITS --workdir=runs/deepfashion
    python evaluate.py --workdir=runs/deepfashion

The training is that of configs/shopping100k.py, with DeepFashion's files and all of its triplets.

Measured with this config: nothing yet.
"""

from ml_collections import ConfigDict

from configs import shopping100k


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of configs/shopping100k.py with DeepFashion's triplets."""
    config = shopping100k.get_config(arg)
    config.memory.triplets = 1_000_000  # at most; this keeps all of ADDE's triplets
    return config
