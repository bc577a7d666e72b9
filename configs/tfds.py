"""Trains on a data set of TensorFlow Datasets (TFDS).

The first word is the name of the data set; words of configs/variants.py follow:

    python train.py --config=configs/tfds.py:shapes3d --config.data.limit=20000 --workdir=runs/shapes3d
    python evaluate.py --workdir=runs/shapes3d

For Shopping100k, its images and ADDE's split files have to be in the same folder; the queries and triplets
of the split files are used, too:

    python -m gradrev_commands.prepare_shopping100k --manual_dir=IMAGES_AND_SPLITS --data_dir=FOLDER
    python train.py --config=configs/tfds.py:shopping100k,adde_m --config.data.tfds_dir=FOLDER \
        --workdir=runs/shopping100k

This needs ``pip install -c constraints.txt -e '.[tfds]'``, but no TensorFlow. TFDS has to have prepared the
data set as array_record; if it has not, the error message has the command. Features other than those that
gradrev_jax/data/formats/tfds/reader.py knows are chosen by name:

    --config.data.tfds_attributes="('hat=attributes/Wearing_Hat','smile=attributes/Smiling')"
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import default, variants

# Drawings of 64 x 64 pixels, for two CPU cores. Mirroring would change their orientation or position, which
# are attributes.
SMALL: Mapping[str, object] = {
    "data.image_size": 64,
    "data.train_resize": 64,
    "model.width": 0.25,
    "model.feature_dim": 64,
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "train.mirror": False,
    "protocol.normalize": "attribute",
}
SETTINGS: dict[str, Mapping[str, object]] = {"shapes3d": SMALL, "dsprites": SMALL}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config.

    Args:
      arg: the name of a data set, unless data.tfds_name gives it, and words for the system.
    """
    config = default.get_config()
    config.data.format = "tfds"
    words = list(filter(None, (arg or "").split(",")))
    if words and words[0] not in variants.WORDS:
        config.data.tfds_name = words.pop(0)
        config.update_from_flattened_dict(SETTINGS.get(config.data.tfds_name, {}))
    return variants.apply(config, ",".join(words))
