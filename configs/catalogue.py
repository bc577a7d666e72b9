"""Trains on your own catalogue: a table and a folder of images.

    python train.py --config=configs/catalogue.py --config.data.root=FOLDER --workdir=runs/mine
    python evaluate.py --workdir=runs/mine

Without an argument: the paper's sizes (224 px, full-width AlexNet, batch 128), for a GPU.
`configs/catalogue.py:cpu`: 96 px and a half-width AlexNet, sized for two CPU cores. On 8,000 product
photographs with six attributes it trained in 8 min 31 s on two cores of an Intel Xeon, and reached micro
attribute accuracy 0.785, hit_rate@10 0.348 (no manipulation: 0.154) and ndcg_target@30 0.198 (no
manipulation: 0.076) over 16,585 generated queries; see docs/results.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the paper's sizes, or a laptop's for ``cpu``; takes the words of ``configs/variants.py``."""
    config = default.get_config()
    config.protocol.normalize = "attribute"
    return variants.apply(config, arg, cpu=_cpu)


def _cpu(config: ConfigDict) -> None:
    config.data.image_size = 96
    config.data.train_resize = 96
    config.model.width = 0.5
    config.train.batch_size = 64
    config.train.epochs = 30
    config.train.learning_rate = 3e-4
