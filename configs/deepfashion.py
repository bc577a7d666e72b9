r"""DeepFashion as ADDE splits it (of its images for attribute prediction).

    python train.py --config=configs/deepfashion.py --config.data.root=IMAGES \
        --config.data.splits=SPLITS --workdir=runs/deepfashion
    python evaluate.py --workdir=runs/deepfashion

As configs/shopping100k.py, with that data set's files and all of its triplets.

Measured with this config: nothing yet.
"""

from ml_collections import ConfigDict

from configs import shopping100k


def get_config(arg: str | None = None) -> ConfigDict:
    """The training of configs/shopping100k.py."""
    config = shopping100k.get_config(arg)
    config.memory.triplets = 1_000_000  # as many as there are
    return config
