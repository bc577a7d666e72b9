import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.formats.adde import image_paths
from gradrev_jax.data.formats.adde.reader import one_hot_rows, read_adde
from gradrev_jax.data.images.limits import ImageLimits
from gradrev_jax.errors import DataError

# Two attributes of 2 and 3 values, three training images and three for the test.
FILES = {
    "attr_num.txt": "2 3",
    "attribute_values.txt": "color: blue, red\nsize: small, medium, very large",
    "imgs_train.txt": "a.png\nb.png\nsub/c.png",
    "labels_train.txt": "1 0 0 0 1\n0 1 0 0 1\n0 1 1 0 0",
    "imgs_test.txt": "d.png\ne.png\nf.png",
    "labels_test.txt": "1 0 1 0 0\n0 1 1 0 0\n0 0 1 0 0",
    "ref_test.txt": "0\n2",
    "indfull_test.txt": "-1 1 0 0 0\n0 1 0 0 0",
    "gt_test.txt": "0 1 1 0 0\n0 1 1 0 0",
    "triplet_train.txt": "0 1 2\n1 2 0",
    "triplet_train_ind.txt": "-1 1 0 0 0\n0 0 1 0 -1",
}


@pytest.fixture
def splits(tmp_path):
    for name in ("a", "b", "sub/c", "d", "e", "f"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text + "\n")
    return tmp_path


def test_labels_parts_queries_and_triplets_are_read(splits):
    catalogue = read_adde(splits, splits)
    assert catalogue.schema.names == ("color", "size")
    assert catalogue.schema.values == (("blue", "red"), ("small", "medium", "very large"))
    assert catalogue.labels.tolist() == [[0, 2], [1, 2], [1, 0], [0, 0], [1, 0], [-1, 0]]
    assert {part: rows.tolist() for part, rows in catalogue.parts.items()} == {
        "train": [0, 1, 2],
        "validation": [],
        "test": [3, 4, 5],
    }
    assert catalogue.images.name(2) == "sub/c.png"
    queries = catalogue.queries
    assert queries.reference.tolist() == [0, 2]
    assert queries.targets.tolist() == [[1, 0], [1, 0]]
    assert queries.changed.tolist() == [[True, False], [True, False]]
    assert queries.indicators.tolist() == [[-1, 1, 0, 0, 0], [0, 1, 0, 0, 0]]
    triplets = catalogue.triplets
    assert np.stack([triplets.reference, triplets.positive, triplets.negative], 1).tolist() == [
        [0, 1, 2],
        [1, 2, 0],
    ]
    np.testing.assert_array_equal(one_hot_rows(catalogue.labels[:3], catalogue.schema)[0], [1, 0, 0, 0, 1])


@pytest.mark.parametrize("names", [True, False])
def test_sizes_may_stand_in_a_column(splits, names):
    if not names:
        (splits / "attribute_values.txt").unlink()
    expected = read_adde(splits, splits)
    (splits / "attr_num.txt").write_text("2\n3\n")
    found = read_adde(str(splits), str(splits))
    assert found.schema == expected.schema
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_labels_that_are_no_values_are_not_written():
    schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
    with pytest.raises(ValueError, match="label -2 of row 0 is outside"):
        one_hot_rows(np.array([[-2, 0]]), schema)


def test_without_names_attributes_and_values_are_numbered(splits):
    (splits / "attribute_values.txt").unlink()
    schema = read_adde(splits, splits).schema
    assert schema.names == ("attribute_0", "attribute_1")
    assert schema.values == (("0", "1"), ("0", "1", "2"))


def test_queries_and_triplets_may_be_left_out_as_a_whole(splits):
    for name in (
        "ref_test.txt",
        "indfull_test.txt",
        "gt_test.txt",
        "triplet_train.txt",
        "triplet_train_ind.txt",
    ):
        (splits / name).unlink()
    catalogue = read_adde(splits, splits)
    assert catalogue.queries is None
    assert catalogue.triplets is None


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("attribute_values.txt",)])
def test_a_missing_file_is_named(splits, name):
    (splits / name).unlink()
    with pytest.raises(DataError, match=name):
        read_adde(splits, splits)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("attr_num.txt", "2 3\n1 1", "attr_num.txt has 2 lines; it needs one"),
        ("attr_num.txt", "2\n3 1", "attr_num.txt.*\n  line 2: 2 numbers instead of 1"),
        ("attr_num.txt", "2\n0", "attr_num.txt.*\n  line 2: 0 is no number of values; 1 to 100000"),
        ("attr_num.txt", "2 0", "line 1: 0 is no number of values"),
        ("attr_num.txt", "2 x", "line 1: 'x' is no whole number"),
        ("attr_num.txt", "2 4", "attribute_values.txt, line 2: needs a name, a colon and 4 values"),
        ("attribute_values.txt", "color: blue, red", "has 1 lines but .*attr_num.txt 2 numbers"),
        ("attribute_values.txt", "color: blue\nsize: s, m, l", "line 1: needs a name, a colon and 2 values"),
        ("attribute_values.txt", "color: blue, blue\nsize: s, m, l", "must be unique"),
        ("attribute_values.txt", "color: blue, \nsize: s, m, l", "line 1: needs"),
        ("imgs_train.txt", "a.png\nb.png", "labels_train.txt has 3 rows but imgs_train.txt has 2"),
        ("imgs_train.txt", "a.png\nb.png\nx.png", "1 of 3 images are not below .*\n  line 3: x.png"),
        ("imgs_test.txt", "d.png\n../e.png\nf.png", "lead out of `root`.*\n  line 2: ../e.png"),
        (
            "labels_train.txt",
            "1 0 0 0 1\n0 1 0 0\n0 1 1 0 0",
            "labels_train.txt.*\n  line 2: 4 numbers",
        ),
        ("labels_train.txt", "1 0 0 0 1\n0 1 0 0 2\n0 1 1 0 0", "line 2: 2 is no label; 0 to 1"),
        ("labels_test.txt", "1 0 1 0 0\n0 1 1 0 0\n0 0 1 1 0", "line 3: 2 values of attribute 'size'"),
        ("ref_test.txt", "0\n3", "line 2: 3 is no row of imgs_test.txt, counted from 0; 0 to 2"),
        ("ref_test.txt", "0", "indfull_test.txt has 2 rows but ref_test.txt has 1"),
        ("indfull_test.txt", "-1 1 0 0 0\n0 5 0 0 0", "line 2: 5 is no entry of an indicator; -1 to 1"),
        ("indfull_test.txt", "1 1 0 0 0\n0 1 0 0 0", "line 1: 2 values of attribute 'color'"),
        ("gt_test.txt", "0 1 1 0 0\n1 1 1 0 0", "line 2: 2 values of attribute 'color'"),
        (
            "triplet_train.txt",
            "0 1 2\n1 2 9",
            "line 2: 9 is no row of imgs_train.txt, .* 0 to 2",
        ),
        ("triplet_train.txt", "0 1 2\n1 2", "line 2: 2 numbers instead of 3"),
        (
            "triplet_train_ind.txt",
            "-1 1 0 0 0",
            "_ind.txt has 1 rows but triplet_train.txt has 2",
        ),
    ],
)
def test_a_fault_is_named_with_file_and_line(splits, name, text, message):
    (splits / name).write_text(text + "\n")
    with pytest.raises(DataError, match=message):
        read_adde(splits, splits)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "indfull_test.txt",
            "1 -1 0 0 0\n0 1 0 0 0",
            "1 of 2 .*\n  line 1: column 1 is 1, but the reference has the value and the target lacks",
        ),
        ("indfull_test.txt", "-1 1 0 0 0\n0 1 0 0 1", "line 2: column 5 is 1, but the reference lacks"),
        ("indfull_test.txt", "0 0 0 0 0\n0 1 0 0 0", "line 1: nothing changes"),
        ("gt_test.txt", "0 1 1 0 0\n0 1 0 1 0", "indfull_test.txt: 1 of 2 .*\n  line 2: column 3 is 0, but"),
        (
            "triplet_train_ind.txt",
            "-1 1 0 0 0\n1 0 1 0 -1",
            "_ind.txt: 1 of 2 .*\n  line 2: column 1",
        ),
    ],
)
def test_a_contradiction_is_counted_listed_and_may_be_dropped(splits, name, text, message):
    (splits / name).write_text(text + "\n")
    with pytest.raises(DataError, match=message) as error:
        read_adde(splits, splits)
    assert "set `drop_contradictions`=true to leave them out" in str(error.value)
    assert error.value.arguments == ("drop_contradictions",)
    catalogue = read_adde(splits, splits, drop_contradictions=True)
    assert len(catalogue.queries) + len(catalogue.triplets) == 3
    before = catalogue.labels[np.r_[catalogue.queries.reference + 3, catalogue.triplets.reference]]
    after = np.r_[catalogue.queries.targets, catalogue.labels[catalogue.triplets.positive]]
    indicators = np.r_[catalogue.queries.indicators, catalogue.triplets.indicators]
    schema = catalogue.schema
    np.testing.assert_array_equal(one_hot_rows(before, schema) + indicators, one_hot_rows(after, schema))


def test_only_contradictions_cannot_be_dropped(splits):
    (splits / "indfull_test.txt").write_text("0 0 0 0 0\n0 0 0 0 0\n")
    with pytest.raises(DataError, match="2 of 2 .* none would be left without them"):
        read_adde(splits, splits, drop_contradictions=True)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DataError, match="is not a folder; set `splits`"):
        read_adde(tmp_path / "nowhere", tmp_path)


def test_images_named_in_another_way_are_named_as_they_are(splits):
    (splits / "imgs_train.txt").write_text("A.PNG\nb\nsub\\c.png\n")
    with pytest.raises(DataError) as error:
        read_adde(splits, splits)
    message = str(error.value)
    assert "3 of 3 images are not below" in message
    assert "; write the paths as the files are named:\n" in message
    assert message.splitlines()[1:] == [
        "  line 1: A.PNG (a.png is there)",
        "  line 2: b (b.png is there)",
        "  line 3: sub\\c.png (sub/c.png is there)",
    ]


@pytest.mark.parametrize(
    "name", ["attr_num.txt", "imgs_train.txt", "labels_test.txt", "triplet_train_ind.txt"]
)
def test_a_split_file_that_is_a_pointer_of_git_lfs_is_named(splits, name):
    (splits / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(DataError, match=rf"{name} is a Git LFS pointer, .*; run `git lfs pull`"):
        read_adde(splits, splits)


def test_the_files_of_images_may_be_left_out_and_their_paths_are_still_checked(splits):
    (splits / "a.png").unlink()
    with pytest.raises(DataError, match=r"imgs_train.txt: 1 of 3 images are not below"):
        read_adde(splits, splits)
    assert read_adde(splits, splits, files_required=False).images.name(0) == "a.png"
    (splits / "imgs_train.txt").write_text("a.png\n../b.png\nsub/c.png\n")
    with pytest.raises(DataError, match="lead out of `root`"):
        read_adde(splits, splits, files_required=False)


def test_a_link_out_of_the_folder_is_refused_unless_the_file_is_trusted(splits):
    elsewhere = splits.parent / f"{splits.name}_elsewhere.png"
    (splits / "b.png").rename(elsewhere)
    (splits / "b.png").symlink_to(elsewhere)
    with pytest.raises(
        DataError, match=r"imgs_train.txt: paths that lead out of `root`; set `outside`=true"
    ) as error:
        read_adde(splits, splits, files_required=False)
    assert f"line 2: b.png leads out of {splits}, by a symbolic link to {elsewhere}" in str(error.value)
    assert error.value.arguments == ("root", "outside")
    images = read_adde(splits, splits, limits=ImageLimits(outside=True, largest_image=3.0)).images
    assert images.read(1, Transform(4, 4)).shape == (4, 4, 3)
    assert images.largest_image == 3


@pytest.mark.parametrize(
    ("train", "test", "twice"),
    [
        (
            "a.png\nb.png\na.png",
            "d.png\ne.png\nf.png",
            ["line 1 of imgs_train.txt, line 3 of imgs_train.txt: a.png"],
        ),
        (
            "a.png\nb.png\nsub/c.png",
            "./b.png\nsub/c.png\nf.png",
            [
                "line 2 of imgs_train.txt, line 1 of imgs_test.txt: b.png",
                "line 3 of imgs_train.txt, line 2 of imgs_test.txt: sub/c.png",
            ],
        ),
    ],
)
def test_an_image_that_stands_twice_is_named_with_its_lines(splits, train, test, twice):
    """One that was in both parts, unchanged, was 'not the one' that the run was trained on."""
    (splits / "imgs_train.txt").write_text(train + "\n")
    (splits / "imgs_test.txt").write_text(test + "\n")
    with pytest.raises(DataError) as error:
        read_adde(splits, splits)
    first, *lines, _ = str(error.value).splitlines()
    assert first == f"{splits}: images that stand more than once:"
    assert lines == [f"  {line}" for line in twice]


def test_a_folder_of_images_that_may_not_be_entered_is_named(splits, monkeypatch):
    """Its image was missing, and the same path was there."""
    monkeypatch.setattr(os, "access", lambda path, mode: pathlib.Path(path).name != "sub")
    monkeypatch.setattr(image_paths, "is_file", lambda path: path.parent.name != "sub")
    with pytest.raises(DataError) as error:
        read_adde(splits, splits)
    expected = f"{splits / 'sub'}, which has the image of line 3, cannot be read: Permission denied"
    assert str(error.value) == f"{splits / 'imgs_train.txt'}: {expected}"


@pytest.mark.parametrize("name", ["x" * 5000, "x\0y"])
def test_a_name_that_is_no_path_is_refused_with_its_line(splits, name):
    """Found by fuzzing: the system's error came through."""
    (splits / "imgs_test.txt").write_text(f"d.png\n{name}\nf.png\n")
    with pytest.raises(DataError, match=r"imgs_test.txt: .*\n  line 2: '?x"):
        read_adde(splits, splits)


@pytest.mark.parametrize("number", [str(-(2**63)), str(2**63), str(2**32), str(-(2**32)), "9" * 5001])
def test_a_number_beyond_32_bits_is_not_taken_for_another(splits, number):
    """The least number of 64 bits has no absolute value, and was read as 0."""
    (splits / "ref_test.txt").write_text("0\n" + number + "\n")
    with pytest.raises(DataError, match=r"ref_test.txt: rows that cannot be used:\n  line 2: "):
        read_adde(splits, splits)


@pytest.mark.parametrize("sizes", ["2 " * 1001, "50001 50000", "100000 1"])
def test_more_values_than_matrices_can_have_are_refused_before_they_are_made(splits, sizes):
    (splits / "attr_num.txt").write_text(sizes + "\n")
    (splits / "attribute_values.txt").unlink()
    with pytest.raises(
        DataError, match=r"attr_num.txt has [\d,]+ attributes of [\d,]+ values; at most 1,000 of"
    ):
        read_adde(splits, splits)
