import dataclasses

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import Catalogue, split_parts
from gradrev_jax.data.formats.adde.reader import read_adde
from gradrev_jax.data.formats.adde.writer import write_adde
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.data.triplets import generate_triplets
from gradrev_jax.errors import DataError

SCHEMA = AttributeSchema(("color", "size"), (("blue", "light red"), ("s", "m", "l")))


@pytest.fixture
def catalogue(tmp_path, rng):
    paths = tuple(f"{row}.jpg" for row in range(60))
    for path in paths:
        (tmp_path / path).touch()
    labels = np.stack([rng.integers(-1, size, 60) for size in SCHEMA.sizes], axis=1).astype(np.int32)
    parts = split_parts(np.array(["test", "train", "train", "validation", "test", "train"] * 10))
    return Catalogue(SCHEMA, ImageFiles(tmp_path, paths), labels, parts)


@pytest.mark.long
def test_what_is_written_is_read_back(catalogue, tmp_path):
    queries = generate_queries(catalogue.part_labels("test"), SCHEMA, kinds=("swap", "add", "remove"))
    rows = catalogue.rows("train", "validation")
    triplets = generate_triplets(catalogue.labels[rows], SCHEMA, count=30, num_changes=2)
    write_adde(tmp_path / "splits", catalogue, queries, triplets.renumber(rows))
    read = read_adde(tmp_path / "splits", tmp_path)
    assert read.schema == SCHEMA
    np.testing.assert_array_equal(read.part_labels("train"), catalogue.labels[rows])
    np.testing.assert_array_equal(read.part_labels("test"), catalogue.part_labels("test"))
    assert [read.images.name(row) for row in read.rows("train", "test").tolist()] == [
        catalogue.images.name(row) for row in catalogue.rows("train", "validation", "test").tolist()
    ]
    for given, found in ((queries, read.queries), (triplets, read.triplets)):
        for field in dataclasses.fields(given):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(given, field.name))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_queries_and_triplets_may_be_left_out(catalogue, tmp_path):
    write_adde(tmp_path / "splits", catalogue, None, None)
    read = read_adde(tmp_path / "splits", tmp_path)
    assert read.queries is None
    assert read.triplets is None


@pytest.mark.parametrize("bad", ["a, b", "a ", "", "a\nb", "a\rb", "\u2028a"])
def test_a_value_that_would_be_read_as_another_is_refused(catalogue, tmp_path, bad):
    schema = AttributeSchema(SCHEMA.names, (("blue", bad), SCHEMA.values[1]))
    with pytest.raises(DataError, match="the format cannot hold"):
        write_adde(tmp_path / "splits", dataclasses.replace(catalogue, schema=schema), None, None)
    assert not (tmp_path / "splits").exists()


@pytest.mark.parametrize("bad", ["a\nb.jpg", "a\rb.jpg", " a.jpg", "a.jpg\x85"])
@pytest.mark.parametrize("row", [0, 1, 3])
def test_an_image_that_would_be_read_as_another_is_refused_by_name(catalogue, tmp_path, bad, row):
    """Of the test, the training and the validation part."""
    paths = (*catalogue.images.paths[:row], bad, *catalogue.images.paths[row + 1 :])
    images = dataclasses.replace(catalogue.images, paths=paths)
    with pytest.raises(DataError, match=r"names of images that the format cannot hold: ") as error:
        write_adde(tmp_path / "splits", dataclasses.replace(catalogue, images=images), None, None)
    assert repr(bad) in str(error.value)
    assert not (tmp_path / "splits").exists()


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_characters_that_end_no_line_are_kept(catalogue, tmp_path, mark):
    schema = AttributeSchema((f"co{mark}lor", "size"), (("blue", f"light{mark}red"), SCHEMA.values[1]))
    path = f"0{mark}a.jpg"
    (tmp_path / path).touch()
    images = dataclasses.replace(catalogue.images, paths=(path, *catalogue.images.paths[1:]))
    write_adde(tmp_path / "splits", dataclasses.replace(catalogue, schema=schema, images=images), None, None)
    read = read_adde(tmp_path / "splits", tmp_path)
    assert read.schema == schema
    assert read.images.name(int(read.parts["test"][0])) == path


def test_a_folder_that_exists_is_left_as_it_is(catalogue, tmp_path):
    (tmp_path / "splits").mkdir()
    with pytest.raises(DataError, match="exists already"):
        write_adde(tmp_path / "splits", catalogue, None, None)
    assert not list((tmp_path / "splits").iterdir())


def test_a_failure_leaves_nothing(catalogue, tmp_path, monkeypatch):
    def full(path, lines):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradrev_jax.data.formats.adde.writer._write_lines", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="cannot be written: No space left"):
        write_adde(tmp_path / "splits", catalogue, None, None)
    assert sorted(tmp_path.iterdir()) == before
