"""Every field of a run, with the paper's values; the other configs start from this one and override.

Override any field on the command line: --config.train.epochs=10
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(arg: str | None = None) -> ConfigDict:
    """All fields. The config is locked: a field that is not here cannot be set by mistake."""
    del arg
    config = ConfigDict()
    config.seed = 0  # initial parameters, batch order, flips, dropout, validation part, choice of queries
    config.precision = "float32"  # of the computation: float32 | bfloat16; parameters and losses: float32

    # how several devices share a batch: pmap | jit (shard_map over a mesh); the results are the same
    config.parallel = "pmap"
    config.devices = 0  # of all that JAX finds, in all processes; 0: all

    config.stages = ("encoder",)  # in order: encoder (1), memory (2: prototypes fine-tuned on triplets)

    config.data = ConfigDict()
    # table: a CSV and image files | adde: ADDE's split files and image files | garments: drawn, embedded |
    # tfds: what TensorFlow Datasets has prepared as array_record
    config.data.format = "table"
    config.data.image_size = 224  # pixels a side (Section 4.2); at least 63
    config.data.train_resize = placeholder(int)  # pixels a side that training images are resized to before
    # the centre crop to image_size; unset: image_size * 256 / 224, the paper's (Section 4.2). The others are
    # resized to image_size and not cropped, so garments look larger in training by that factor.
    config.data.cache_dir = ""  # decoded images; "": $XDG_CACHE_HOME/gradrev_jax or ~/.cache/gradrev_jax
    # GiB that the cache may have: before an entry is written, those unused for longest are removed, but none
    # that a run has open; 0: any size. python -m gradrev_commands.image_cache shows the cache and clears it
    config.data.cache_limit = 50.0
    config.data.workers = 0  # threads that decode; 0: one per core
    # where training images are drawn from: host (memory-mapped, sent batch by batch while steps run) |
    # device (all are kept on every device, as uint8)
    config.data.placement = "host"
    # what decides about an image in a seeded split, and in the validation part: image (a hash of its name, so
    # that no other image's coming or going changes its part) | order (its place among all, as up to 0.1.0)
    config.data.split_by = "image"
    # whether a run goes on though the images that it trains on, or their labels, are not those it began with
    config.data.accept_changes = False
    config.data.root = placeholder(str)  # folder of the catalogue's images (format=table, adde)
    # format=table
    config.data.table = "attributes.csv"  # the CSV, relative to root
    config.data.delimiter = ""  # between cells, as ";" or "tab"; "": , ; tab or |, recognised by the header
    config.data.image_column = "image"  # column with the image's path, relative to root
    # or a path made of columns, as images/{id}.jpg, or images/{id:06d}.jpg for 000001.jpg
    config.data.image_template = placeholder(str)
    config.data.split_column = "split"  # column with train, validation or test; "": a seeded split
    config.data.test_fraction = 0.2  # of the seeded split (table, tfds), and of garments
    config.data.attributes = ()  # columns to use as attributes; (): all the others
    config.data.ignore = ()  # columns that are no attributes
    # cells that mean "not labelled", as empty ones do; case does not matter; (): empty ones alone
    config.data.missing_words = (
        *("na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "nat", "null", "nil", "none"),
        *("-", "--", "–", "?", "."),
    )
    # whether spellings that differ in case, white space or Unicode form, or as 7 and 7.0 do, are one value
    config.data.merge_spellings = True
    config.data.value_separator = ""  # between values in a cell, whose order then does not matter, as "|"
    config.data.verbatim = ()  # columns whose cells are values as they stand: the three above do not apply
    config.data.min_count = 1  # values with fewer images become "not labelled" (table, tfds)
    # images drawn with the seed, from all parts together, the others left out; unset: all (table, tfds)
    config.data.limit = placeholder(int)
    # format=adde
    config.data.splits = placeholder(str)  # folder of the split files; unset: root
    config.data.drop_contradictions = (
        False  # whether queries and triplets at odds with the labels are left out
    )
    # format=garments
    config.data.count = 4000  # images, train and test together
    config.data.missing = 0.0  # fraction of the training labels that is hidden
    config.data.correlation = 0.0  # fraction of training images whose attributes follow their category

    # format=tfds
    config.data.tfds_name = placeholder(str)  # what TFDS calls the data set, as shapes3d
    config.data.tfds_dir = ""  # where TFDS prepares data sets; "": $TFDS_DATA_DIR or ~/tensorflow_datasets
    config.data.tfds_image = "image"  # feature that is the image
    # features to use, as "hat=attributes/Wearing_Hat"; (): those of MAPPINGS in data/tfds.py, or all classes
    config.data.tfds_attributes = ()
    # of train and test, or of train, validation and test, as ("train[:80%]", "train[80%:]"); one: a seeded
    # test part; (): those with these names
    config.data.tfds_splits = ()

    config.model = ConfigDict()
    config.model.tap = "fc6_relu"  # fc6 | fc6_relu | fc7 | fc7_relu; the paper's "Linear 1" (Table 2)
    config.model.heads = "shared"  # shared: N classifiers read every feature | pairwise: N x N (Section 3.2)
    config.model.feature_dim = 340  # d, width of one attribute's feature (Table 2)
    config.model.width = 1.0  # multiplies the backbone's filters and units
    config.model.dropout = 0.5  # before each fully connected layer of the backbone
    config.model.pretrained = placeholder(str)  # file with torchvision's AlexNet weights; unset: random ones

    config.reversal = ConfigDict()
    # w_rev: balanced (Eq. 5) | fixed at beta | schedule: Ganin's ramp from 0 to beta | off (Table 7)
    config.reversal.weighting = "balanced"
    config.reversal.beta = 0.1  # share of the reversal in the loss (Eq. 5)
    config.reversal.scale = 1.0  # lambda, strength of the reversed gradient
    config.reversal.strengths = ()  # N rows of N factors of it: row feature, column classifier; (): all 1
    config.reversal.reach = "backbone"  # how far the reversed gradient goes: backbone | mlp (stops there)

    config.train = ConfigDict()
    config.train.batch_size = 128  # images (Section 4.2)
    config.train.mirror = True  # training images, left to right at random (Section 4.2), in both stages
    config.train.epochs = 25  # passes over the training part (Section 4.2)
    # ends the stage early; 0: the encoder that the run has stays as it is; unset: after all epochs
    config.train.max_steps = placeholder(int)
    config.train.learning_rate = 1e-4  # Adam's (Section 4.2)
    config.train.schedule = "step"  # of the learning rate: step | cosine (to 0) | constant
    config.train.decay_rate = 0.5  # step: the learning rate is multiplied by this ...
    config.train.decay_epochs = 10  # ... every so many epochs (Section 4.2)
    config.train.warmup_steps = 0  # over which the learning rate first rises from 0
    config.train.weight_decay = 0.0  # decoupled (AdamW), on weights but not biases
    config.train.clip_norm = placeholder(float)  # greatest global norm of the gradient; unset: no clipping
    config.train.patience = placeholder(
        int
    )  # epochs without a better validation that end a stage; unset: none
    config.train.classification_weight = 1.0  # w_cls (Eq. 3)
    config.train.attribute_triplet_weight = 0.0  # semi-hard triplets within each attribute; ADDE-M: 0.2
    config.train.label_triplet_weight = 0.0  # semi-hard triplets on the whole feature; ADDE-M: 1
    config.train.triplet_margin = 0.5  # of both, in squared distance
    config.train.validation_fraction = 0.1  # of the train split, held out to choose the best checkpoint
    config.train.log_every = 20  # steps between records
    config.train.steps_per_call = 1  # compiled into one program; more where a step takes but milliseconds
    config.train.checkpoint_every = 0  # steps between checkpoints besides those at every epoch's end; 0: none

    config.memory = ConfigDict()  # stage 2, as ADDE-M has it; schedule, decay, clipping and patience of train
    config.memory.triplets = 20000  # drawn from the training part, or the first of those the catalogue has
    config.memory.kinds = ("swap", "add")  # of the changes drawn: swap, add, remove (a value without another)
    config.memory.num_changes = 1  # attributes that change at once
    config.memory.batch_size = 64  # triplets (Section 4.2)
    config.memory.epochs = 2  # passes over the triplets
    config.memory.max_steps = placeholder(int)  # ends the stage early; unset: after all epochs
    config.memory.learning_rate = 1e-4  # Adam's
    config.memory.block = "soft"  # soft: entries outside a value's block cost | hard: there are none
    config.memory.freeze_encoder = False  # whether the memory alone is trained
    config.memory.reversal = False  # whether the reversal loss stays on, with the balanced weight
    config.memory.margin = 0.5  # of both triplet losses
    config.memory.weights = ConfigDict()  # of the terms of the loss
    config.memory.weights.classification = 0.2
    config.memory.weights.semi_hard = 1.0
    config.memory.weights.margin = 1.0
    config.memory.weights.consistency = 1.0
    config.memory.weights.off_block = 0.4

    config.protocol = ConfigDict()
    config.protocol.ks = (1, 2, 3, 4, 5, 10, 20, 30, 40, 50)  # cut-offs K of the metrics (Section 4.3)
    config.protocol.num_references = 0  # reference images drawn for the queries; 0: every test image
    config.protocol.kinds = ("swap", "add")  # of the changes asked for: swap, add, remove
    config.protocol.num_changes = 1  # attributes that change at once
    config.protocol.exclude_query = False  # whether the query image itself is left out of its result
    # f' = f + strength * M i: a number, 1 is Eq. 7 | validation: the best on the held-out part
    config.protocol.strength = "1"
    # whether the best checkpoint is chosen on the test part, as ADDE does, which flatters; for training
    config.protocol.select_on_test = False
    config.protocol.normalize = "global"  # L2 normalisation of the features: global | attribute | none
    config.protocol.batch_size = 128  # images encoded at once
    return config.lock()
