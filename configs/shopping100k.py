r"""Trains on Shopping100k as ADDE splits it: 80,586 training and 20,000 test images, 12 attributes.

    python train.py --config=configs/shopping100k.py --config.data.root=IMAGES \
        --config.data.splits=SPLITS --workdir=runs/shopping100k
    python evaluate.py --workdir=runs/shopping100k

SPLITS is ADDE's folder of split files (attr_num.txt, labels_train.txt, ...), IMAGES the folder that its
paths are relative to; the data set's authors give the images on request. The 12 attributes have 151 values.
The sizes are the paper's, for a GPU: 224 px, full-width AlexNet, 25 encoder epochs at batch 128, then 25
fine-tuning epochs at batch 64 over 9 of 10 triplets. Words of configs/variants.py pick the system and the
protocol, as in ``configs/shopping100k.py:adde_m,paper``. --config.model.pretrained=FILE reads the ImageNet
weights that the paper starts from.

Measured with this config: nothing yet.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the paper's training, with the split's own queries and triplets."""
    config = default.get_config()
    config.stages = ("encoder", "memory")
    config.data.format = "adde"
    config.data.drop_contradictions = True  # the published files contain some
    config.memory.triplets = 108_333  # of 120,371: ADDE keeps the last tenth apart
    config.memory.epochs = 25
    return variants.apply(config, arg)
