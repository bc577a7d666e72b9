import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gradrev_commands.prepare_shopping100k import prepare_shopping100k
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TEST, TRAIN, Catalogue, Sampling, Transform, split_parts
from gradrev_jax.data.formats.adde.reader import read_adde
from gradrev_jax.data.formats.adde.writer import write_adde
from gradrev_jax.data.formats.tfds.reader import TfdsFeatures, read_tfds
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.data.triplets import generate_triplets
from gradrev_jax.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")
shopping100k = pytest.importorskip("gradrev_jax.data.formats.tfds.shopping100k")
TRANSFORM = Transform(8, 10)


def write_manual(folder, names=shopping100k.ATTRIBUTES, manipulations=True):
    """Images of 12 attributes of 2 or 3 values and the split files beside them; train and test alternate."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    (folder / "sub").mkdir()
    paths = tuple(f"{'sub/' * (row % 2)}{row}.{('png', 'jpg')[row % 2]}" for row in range(40))
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(folder / path)
    values = tuple(tuple(f"{name} {value}" for value in "abc"[: 2 + n % 2]) for n, name in enumerate(names))
    schema = AttributeSchema(tuple(names), values)
    labels = np.zeros((40, len(names)), np.int32)
    labels[:, :3] = rng.integers(-1, [2, 3, 2], (40, 3))
    labels[20:22, 3:] = 1  # all attributes have two values at least
    catalogue = Catalogue(
        schema, ImageFiles(folder, paths), labels, split_parts([TRAIN, TEST, TRAIN, TRAIN] * 10)
    )
    queries, triplets = None, None
    if manipulations:
        queries = generate_queries(catalogue.part_labels(TEST), schema, kinds=("swap", "add", "remove"))
        of_train = generate_triplets(catalogue.part_labels(TRAIN), schema, count=25, num_changes=2)
        triplets = of_train.renumber(catalogue.parts[TRAIN])
    write_adde(folder / "splits", catalogue, queries, triplets)
    for file in (folder / "splits").iterdir():
        file.rename(folder / file.name)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The manual folder and TFDS's."""
    root = tmp_path_factory.mktemp("shopping")
    manual = write_manual(root / "manual")
    prepare_shopping100k(manual, str(root / "tfds"))
    return manual, root / "tfds"


def same(found, expected):
    assert type(found) is type(expected)
    for name, column in vars(expected).items():
        np.testing.assert_array_equal(vars(found)[name], column, err_msg=name)
        assert vars(found)[name].dtype == column.dtype


def test_the_catalogue_is_that_of_the_split_files(prepared):
    manual, folder = prepared
    found, expected = read_tfds("shopping100k", data_dir=str(folder)), read_adde(manual, manual)
    assert len(expected.queries) > 10
    assert len(expected.triplets) == 25
    assert found.schema == expected.schema
    assert found.labels.dtype == expected.labels.dtype
    np.testing.assert_array_equal(found.labels, expected.labels)
    for part, rows in expected.parts.items():
        np.testing.assert_array_equal(found.parts[part], rows)
    same(found.queries, expected.queries)
    same(found.triplets, expected.triplets)
    for row in range(40):
        np.testing.assert_array_equal(found.images.read(row, TRANSFORM), expected.images.read(row, TRANSFORM))


def test_the_records_keep_files_names_and_missing_labels(prepared):
    manual, folder = prepared
    builder = tfds.builder("shopping100k", data_dir=folder)
    assert type(builder) is shopping100k.Shopping100k
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
        "train": 30,
        "test": 10,
    }
    source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    expected = read_adde(manual, manual)
    assert (expected.labels < 0).any()
    for row in range(30):
        assert source[row]["name"].decode() == expected.images.name(row)
        assert source[row]["image"] == (manual / expected.images.name(row)).read_bytes()
        labels = [source[row][name] for name in shopping100k.ATTRIBUTES]
        assert labels == expected.labels[row].tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": Sampling(limit=30)},
        {"features": TfdsFeatures({"color": "color", "fit": "fit"})},
        {"features": TfdsFeatures({"color": "color"}, min_count=3)},
        {"splits": ("train",)},
    ],
)
def test_a_part_of_the_data_set_comes_without_queries_and_triplets(prepared, options):
    catalogue = read_tfds("shopping100k", data_dir=str(prepared[1]), **options)
    assert catalogue.queries is None
    assert catalogue.triplets is None


def test_queries_and_triplets_may_be_left_out(tmp_path):
    manual = write_manual(tmp_path / "manual", manipulations=False)
    prepare_shopping100k(manual, str(tmp_path / "tfds"))
    catalogue = read_tfds("shopping100k", data_dir=str(tmp_path / "tfds"))
    assert catalogue.queries is None
    assert catalogue.triplets is None
    np.testing.assert_array_equal(catalogue.labels, read_adde(manual, manual).labels)


def fails(folder, data_dir):
    with pytest.raises(DataError) as error:
        prepare_shopping100k(folder, str(data_dir))
    assert not list(data_dir.rglob("*shopping100k*")), "nothing half-written"
    return str(error.value)


@pytest.mark.long
def test_attributes_of_another_data_set_are_refused(tmp_path):
    few = write_manual(tmp_path / "few", names=shopping100k.ATTRIBUTES[:5])
    assert "few/attr_num.txt has 5 attributes, but Shopping100k has 12: category, " in fails(
        few, tmp_path / "tfds"
    )
    other = write_manual(tmp_path / "other", names=tuple("abcdefghijkl"))
    assert "must have the attributes category, " in fails(other, tmp_path / "tfds")
    (other / "attribute_values.txt").unlink()
    prepare_shopping100k(other, str(tmp_path / "tfds"))
    schema = read_tfds("shopping100k", data_dir=str(tmp_path / "tfds")).schema
    assert schema.names == shopping100k.ATTRIBUTES
    assert schema.values[:2] == (("0", "1"), ("0", "1", "2"))


def test_tensorflow_is_never_imported(tmp_path):
    manual = write_manual(tmp_path / "manual")
    script = f"""
import sys
import tensorflow_datasets as tfds
import gradrev_jax.data.formats.tfds.shopping100k  # registers the data set
from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.formats.tfds.reader import read_tfds
builder = tfds.builder("shopping100k", data_dir={str(tmp_path / "tfds")!r}, file_format="array_record")
builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir={str(manual)!r}))
catalogue = read_tfds("shopping100k", {str(tmp_path / "tfds")!r}, progress=False)
assert len(catalogue.parts["test"]) == 10
assert catalogue.images.read(0, Transform(8, 8)).shape == (8, 8, 3)
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, capture_output=True)
