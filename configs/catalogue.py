"""Trains on your own catalogue: a table and a folder of images.

    python train.py --config=configs/catalogue.py:pretrained --config.data.root=FOLDER --workdir=runs/mine
    python evaluate.py --workdir=runs/mine

`configs/catalogue.py:pretrained`: attribute MLPs on the features of an EfficientNet-Lite0 that was trained
on ImageNet, and stays as it is; the word `search` says how images are compared. Sized for two CPU cores, it
needs the extra `pretrained`. On 8,000 product photographs with six attributes it reached micro attribute
accuracy 0.850 and hit_rate@10 0.817 (no manipulation: 0.207) over 16,585 generated queries, the mean of ten
seeds, with strengths chosen on the validation part; see docs/study.md.
`configs/catalogue.py:pretrained,removed` has features that tell little of other attributes: 0.727 with five
seeds, of an encoder that was not trained with a class for missing labels.
`configs/catalogue.py:pretrained,finetune` trains the network, too.
`configs/catalogue.py:embeddings` takes vectors of your own instead, --config.data.embeddings=FILE
(docs/embeddings.md).
`configs/catalogue.py:cpu`: 96 px and a half-width AlexNet from random weights, sized for two CPU cores. On
8,000 product photographs with six attributes it trained in 8 min 31 s on two cores of an Intel Xeon, and
reached micro attribute accuracy 0.785, hit_rate@10 0.348 (no manipulation: 0.154) and ndcg_target@30 0.198
(no manipulation: 0.076) over 16,585 generated queries; see docs/results.md.
Without an argument: the paper's sizes (224 px, full-width AlexNet, batch 128), for a GPU.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the paper's sizes, or those of a word; takes the words of ``configs/variants.py``, too."""
    config = default.get_config()
    config.protocol.normalize = "attribute"
    own = {"pretrained": _pretrained, "embeddings": _embeddings, "finetune": _finetune, "cpu": _cpu}
    return variants.apply(config, arg, **own)


def _cpu(config: ConfigDict) -> None:
    config.data.image_size = 96
    config.data.train_resize = 96
    config.model.width = 0.5
    config.train.batch_size = 64
    config.train.epochs = 30
    config.train.learning_rate = 3e-4


def _pretrained(config: ConfigDict) -> None:
    _embeddings(config)
    config.data.train_resize = config.data.image_size  # all parts are embedded alike, whatever the seed
    config.model.backbone = "efficientnet_lite0"
    config.model.tap = "levels"  # the last layer alone has forgotten colours
    config.model.pretrained = "imagenet"
    config.model.freeze_backbone = True


def _embeddings(config: ConfigDict) -> None:
    config.model.backbone = "embeddings"
    config.model.tap = None
    config.model.dropout = 0.2
    config.reversal.weighting = "off"
    config.train.mirror = False
    config.train.epochs = 15
    config.train.learning_rate = 1e-3
    config.memory.learning_rate = 1e-3
    config.memory.triplets = 10000
    config.protocol.normalize = "global"
    variants.apply(config, "search")


def _finetune(config: ConfigDict) -> None:
    config.model.freeze_backbone = False
    config.model.tap = "pooled"  # numbers of several layers would have to be brought to one size
    config.train.mirror = True
    config.train.batch_size = 32
    config.train.epochs = 5
    config.train.learning_rate = 1e-4
    config.memory.learning_rate = 1e-4
