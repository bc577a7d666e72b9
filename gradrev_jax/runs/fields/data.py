"""Fields of the catalogue, its images and the formats that it may come in."""

from gradrev_jax.core.missing_labels import MISSING
from gradrev_jax.data.catalogue import SPLITS_BY
from gradrev_jax.data.images.limits import LARGEST_IMAGE, MOST_MEGAPIXELS
from gradrev_jax.runs.formats import FORMATS
from gradrev_jax.systems.field import Field, Rule, at_least, one_of

PLACEMENTS = HOST, DEVICE = "host", "device"

IMAGES = {
    "format": Field(
        default="table",
        meaning="Form of the catalogue: `table` (a CSV file and image files), `adde` (ADDE-M's split files "
        "and image files), `garments` (drawn, built in) or `tfds` (prepared by TensorFlow Datasets "
        "as array_record).",
        rule=one_of(FORMATS),
        same_test=True,
    ),
    "image_size": Field(
        default=224,
        meaning="Height and width of the network's input, in pixels.",
        paper="Section 4.2",
    ),
    "train_resize": Field(
        default=None,
        kind=int,
        meaning="Size that training images are resized to before the centre crop to `image_size`, in pixels; "
        "unset: image_size * 256 / 224. All other images are resized to `image_size` and not cropped, so "
        "garments look larger in training by this factor.",
        paper="Section 4.2",
    ),
    "cache_dir": Field(
        default="",
        meaning="Folder of the decoded images, and of what evaluations have measured; empty: "
        "$XDG_CACHE_HOME/gradrev_jax or ~/.cache/gradrev_jax.",
        resumable=True,
        movable=True,
        descriptive=False,
    ),
    "cache_limit": Field(
        default=50.0,
        meaning="Largest size of the cache, in GiB: before an entry is written, those unused for longest are "
        "removed, except those that a run has open; 0: no limit. gradrev-image-cache shows the cache.",
        rule=at_least(0),
        resumable=True,
        movable=True,
        descriptive=False,
        earlier=50.0,
    ),
    "outside": Field(
        default=False,
        meaning="Whether the paths of images may lead out of `root`: by `..`, as absolute paths, or by "
        "symbolic links (table, adde).",
        resumable=True,
        movable=True,
        descriptive=False,
        earlier=True,
    ),
    "largest_image": Field(
        default=LARGEST_IMAGE,
        meaning="Size of the largest image that is decoded, in megapixels, as its header says it.",
        rule=Rule(f"more than 0 and at most {MOST_MEGAPIXELS}", lambda value: 0 < value <= MOST_MEGAPIXELS),
        resumable=True,
        movable=True,
        descriptive=False,
        earlier=MOST_MEGAPIXELS,
    ),
    "workers": Field(
        default=0,
        meaning="Number of threads that decode images; 0: one per core.",
        rule=at_least(0),
        resumable=True,
        movable=True,
        descriptive=False,
    ),
    "placement": Field(
        default="host",
        meaning="Where training images are drawn from: `host` (memory-mapped, sent batch by batch during the "
        "steps) or `device` (all are kept on every device, as uint8).",
        rule=one_of(PLACEMENTS),
        resumable=True,
    ),
    "split_by": Field(
        default="image",
        meaning="What decides the part of an image in a seeded split: `image` (a hash of its name, so that "
        "no other image's coming or going changes its part) or `order` (its position, as "
        "runs of earlier versions have it).",
        rule=one_of(SPLITS_BY),
        earlier="order",
    ),
    "leave_out": Field(
        default=(),
        meaning="Attributes that are neither trained on nor asked for, although the catalogue labels them: "
        "evaluation measures how far the results keep them all the same.",
        same_test=True,
        earlier=(),
    ),
    "accept_changes": Field(
        default=False,
        meaning="Whether a run goes on although its training images, or their labels, have changed since it "
        "began.",
        resumable=True,
        earlier=False,
    ),
    "root": Field(
        default=None,
        kind=str,
        meaning="Folder of the catalogue's images (table, adde).",
        resumable=True,
        movable=True,
        descriptive=False,
    ),
    "embeddings": Field(
        default=None,
        kind=str,
        meaning="File of the images' embeddings, for the backbone `embeddings`: .npy, .npz, .safetensors or "
        ".parquet, see embeddings.md; image files may then be missing; unset: none (table, adde).",
        resumable=True,
        movable=True,
        earlier=None,
    ),
}

# Fields that several formats have in common.
SHARED = {
    "test_fraction": Field(
        default=0.2,
        meaning="Fraction of the images in the test part of a seeded split (table, tfds), and of garments.",
        same_test=True,
    ),
    "min_count": Field(
        default=1,
        meaning="Number of images below which a value counts as `not labelled` (table, tfds).",
        rule=at_least(1),
        same_test=True,
    ),
    "seed": Field(
        default=None,
        kind=int,
        meaning="Seed of all that is drawn of the catalogue: its parts, `limit`, garments, and the choice of "
        "queries; unset: `seed`. Runs of several seeds are compared on the same test images by one of it.",
        rule=at_least(0),
        same_test=True,
        earlier=None,
    ),
    "missing": Field(
        default="ignore",
        meaning="What becomes of missing labels: `ignore`, or `value` for a class of its own per attribute, "
        "which the classifiers tell from the values, and which no change asks for.",
        rule=one_of(MISSING),
        earlier="ignore",
    ),
    "limit": Field(
        default=None,
        kind=int,
        meaning="Number of images drawn with the seed from all parts together; unset: all (table, tfds).",
        rule=at_least(1),
        same_test=True,
    ),
}

DATA_FIELDS: dict[str, Field] = {
    **IMAGES,
    **SHARED,
    **{name: field for each in FORMATS.values() for name, field in each.fields.items()},
}
