"""Trains the embedded demo on drawn garments; there is nothing to download.

python train.py --config=configs/garments.py --workdir=runs/garments
python evaluate.py --workdir=runs/garments
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns a small run for two CPU cores; a word of ``configs/variants.py`` picks the system."""
    config = default.get_config()
    config.data.format = "garments"
    config.data.image_size = 64
    config.data.train_resize = 64
    config.data.count = 10000
    config.data.split_by = (
        "order"  # the config alone decides which garments there are, so the order is stable
    )
    config.model.width = 0.25
    config.model.feature_dim = 64
    config.train.batch_size = 64
    config.train.epochs = 20
    config.train.learning_rate = 1e-3
    config.protocol.normalize = "attribute"
    return variants.apply(config, arg)
