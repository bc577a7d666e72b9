"""A data set of TensorFlow Datasets (TFDS): the first word is its name, words of configs/variants.py follow.

    python train.py --config=configs/tfds.py:shapes3d --config.data.limit=20000 --workdir=runs/shapes3d
    python evaluate.py --workdir=runs/shapes3d

Shopping100k, from its images with ADDE's split files in the same folder; its queries and triplets come along:

    python -m gradrev_commands.prepare_shopping100k --manual_dir=IMAGES_AND_SPLITS --data_dir=FOLDER
    python train.py --config=configs/tfds.py:shopping100k,adde_m --config.data.tfds_dir=FOLDER \
        --workdir=runs/shopping100k

Needs ``pip install -c constraints.txt -e '.[tfds]'``, and no TensorFlow. TFDS has to have prepared the data
set as array_record; where it has not, the error has the command. Features other than those that
gradrev_jax/data/formats/tfds/reader.py knows are chosen by name:

    --config.data.tfds_attributes="('hat=attributes/Wearing_Hat','smile=attributes/Smiling')"
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import default, variants

# Drawings of 64 x 64 pixels, for two CPU cores; a mirrored one has another orientation or position.
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
    """The name of a data set, unless it is left to data.tfds_name, and words for the system."""
    config = default.get_config()
    config.data.format = "tfds"
    words = list(filter(None, (arg or "").split(",")))
    if words and words[0] not in {**variants.SYSTEMS, **variants.PROTOCOLS}:
        config.data.tfds_name = words.pop(0)
        config.update_from_flattened_dict(SETTINGS.get(config.data.tfds_name, {}))
    return variants.apply(config, ",".join(words))
