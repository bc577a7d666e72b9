"""Fields of the catalogue, its images and the formats that it may come in."""

from gradrev_jax.data.catalogue import SPLITS_BY
from gradrev_jax.models.alexnet import SMALLEST_IMAGE
from gradrev_jax.runs.fields.field import Field, Rule, at_least, one_of

PLACEMENTS = HOST, DEVICE = "host", "device"
FORMAT_NAMES = ("table", "adde", "garments", "tfds")

IMAGES = {
    "format": Field(
        default="table",
        meaning="Form of the catalogue: `table` (a CSV file and image files), `adde` (ADDE-M's split files "
        "and image files), `garments` (drawn, built in) or `tfds` (prepared by TensorFlow Datasets "
        "as array_record).",
        rule=one_of(FORMAT_NAMES),
        same_test=True,
    ),
    "image_size": Field(
        default=224,
        meaning="Height and width of the network's input, in pixels.",
        rule=at_least(SMALLEST_IMAGE),
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
        meaning="Folder of the decoded images; empty: $XDG_CACHE_HOME/gradrev_jax or ~/.cache/gradrev_jax.",
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
        "no other image's coming or going changes its part) or `order` (its position, as up to "
        "0.1.0).",
        rule=one_of(SPLITS_BY),
        earlier="order",
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
}

DELIMITER = Rule(
    "one character, as ';', or tab, or '' to recognise it",
    lambda value: value in ("", "tab", "\\t") or (len(value) == 1 and value not in '"\r\n '),
)

TABLE = {
    "table": Field(default="attributes.csv", meaning="CSV file, relative to `root` (table).", same_test=True),
    "delimiter": Field(
        default="",
        meaning="Delimiter of the cells, as `;` or `tab`; empty: comma, semicolon, tab or bar, recognised "
        "from the header (table).",
        rule=DELIMITER,
        earlier=",",
    ),
    "image_column": Field(
        default="image", meaning="Column with the path of the image, relative to `root` (table)."
    ),
    "image_template": Field(
        default=None,
        kind=str,
        meaning="Path of the image made from columns, as `images/{id}.jpg`, or `images/{id:06d}.jpg` for "
        "000001.jpg; unset: `image_column` has the path (table).",
    ),
    "split_column": Field(
        default="split",
        meaning="Column with train, validation or test; empty: a seeded split (table).",
        same_test=True,
    ),
    "test_fraction": Field(
        default=0.2,
        meaning="Fraction of the images in the test part of a seeded split (table, tfds), and of garments.",
        same_test=True,
    ),
    "attributes": Field(
        default=(),
        meaning="Columns that are attributes; (): all that have no other use (table).",
        same_test=True,
    ),
    "ignore": Field(
        default=(), meaning="Columns that are not attributes (table).", same_test=True, earlier=()
    ),
    "missing_words": Field(
        default=(
            *("na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "nat", "null", "nil", "none"),
            *("-", "--", "–", "?", "."),
        ),
        meaning="Cells that mean `not labelled`, as empty cells do, in any case; (): empty cells alone "
        "(table).",
        same_test=True,
        earlier=(),
    ),
    "merge_spellings": Field(
        default=True,
        meaning="Whether spellings that differ in case, white space or Unicode form, or as 7 and 7.0 do, are"
        " one value (table).",
        same_test=True,
        earlier=False,
    ),
    "value_separator": Field(
        default="",
        meaning="Separator of several values in one cell, as `|`, whose order then does not matter; empty: a "
        "cell is one value (table).",
        same_test=True,
        earlier="",
    ),
    "verbatim": Field(
        default=(),
        meaning="Columns whose cells are values as they are: the three fields above do not apply (table).",
        same_test=True,
        earlier=(),
    ),
    "min_count": Field(
        default=1,
        meaning="Number of images below which a value counts as `not labelled` (table, tfds).",
        rule=at_least(1),
        same_test=True,
    ),
    "limit": Field(
        default=None,
        kind=int,
        meaning="Number of images drawn with the seed from all parts together; unset: all (table, tfds).",
        rule=at_least(1),
        same_test=True,
    ),
}

ADDE = {
    "splits": Field(
        default=None,
        kind=str,
        meaning="Folder of the split files, relative to `root`; unset: `root` (adde).",
        resumable=True,
        movable=True,
        same_test=True,
    ),
    "drop_contradictions": Field(
        default=False,
        meaning="Whether queries and triplets that contradict the labels are left out (adde).",
    ),
}

GARMENTS = {
    "count": Field(
        default=4000,
        meaning="Number of images, train and test together (garments).",
        same_test=True,
    ),
    "missing": Field(default=0.0, meaning="Fraction of the training labels that is hidden (garments)."),
    "correlation": Field(
        default=0.0,
        meaning="Fraction of the training images whose attributes follow their category (garments).",
    ),
}

TFDS = {
    "tfds_name": Field(default=None, kind=str, meaning="Name of the data set in TFDS, as `shapes3d` (tfds)."),
    "tfds_dir": Field(
        default="",
        meaning="Folder that TFDS prepares data sets in; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets "
        "(tfds).",
        resumable=True,
        movable=True,
    ),
    "tfds_image": Field(default="image", meaning="Feature that holds the image (tfds)."),
    "tfds_attributes": Field(
        default=(),
        meaning="Features that are attributes, as `hat=attributes/Wearing_Hat`; (): those of MAPPINGS in "
        "data/formats/tfds/reader.py, or all classes (tfds).",
    ),
    "tfds_splits": Field(
        default=(),
        meaning="Splits of train and test, or of train, validation and test, as `('train[:80%]', "
        "'train[80%:]')`; one: its test part is drawn with the seed; (): those of these names (tfds).",
    ),
}

DATA = {**IMAGES, **TABLE, **ADDE, **GARMENTS, **TFDS}
