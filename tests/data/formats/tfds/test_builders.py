import re
import shutil
import sys

import pytest

from gradrev_jax.data.formats.tfds.builders import assign_parts, import_tfds, prepared_builder, split_records
from gradrev_jax.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")


def fails(name, folder):
    with pytest.raises(DataError) as error:
        prepared_builder(name, folder)
    return str(error.value)


def test_a_prepared_data_set_is_found_with_and_without_its_code(tiny_dir, monkeypatch):
    assert import_tfds() is tfds
    builder = prepared_builder("tiny_garments", str(tiny_dir))
    assert list(builder.info.splits) == ["train", "validation", "test"]
    monkeypatch.delitem(tfds.core.registered._DATASET_REGISTRY, "tiny_garments")
    read_only = prepared_builder("tiny_garments:1.0.0", str(tiny_dir))
    assert type(read_only) is not type(builder)
    assert read_only.info.features["color"].names == ["red", "green", "blue"]


def test_the_default_folder_is_that_of_tfds(tiny_dir, tmp_path):
    assert f"data_dir={str(tmp_path)!r}" in fails("tiny_garments", str(tmp_path))
    assert "data_dir" not in fails("cifar10", None).split("\n")[1]


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    message = fails("shapes_3d", str(tmp_path))
    assert (
        f"no data set called 'shapes_3d', and none is prepared in {tmp_path}; did you mean shapes3d"
        in message
    )
    assert "tfds.list_builders() has all names" in fails("qqqqqqqq", str(tmp_path))


@pytest.mark.parametrize("name", ["a/b/c d", "", "shapes3d:9.9.9", "kaggle:mnist"])
def test_a_name_that_cannot_be_parsed_is_refused(name, tmp_path):
    message = fails(name, str(tmp_path))
    assert f"data set called {name!r}" in message or f"`name` = {name!r} in {tmp_path}: " in message


def test_a_data_set_that_is_not_prepared_is_named_with_the_command(tmp_path):
    message = fails("shapes3d", str(tmp_path))
    assert f"shapes3d is not prepared in {tmp_path}/shapes3d/" in message
    folder, command = str(tmp_path), message.split("\n")[1].strip()
    assert command == (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('shapes3d', data_dir={folder!r}, file_format='array_record').download_and_prepare()\""
    )
    assert not list(tmp_path.iterdir())


def test_shopping100k_has_a_command_of_its_own(tmp_path):
    pytest.importorskip("gradrev_jax.data.formats.tfds.shopping100k")
    message = fails("shopping100k", str(tmp_path))
    assert "gradrev_commands.prepare_shopping100k --manual_dir=IMAGES_AND_SPLITS --data_dir=" in message


def test_the_format_of_tensorflow_cannot_be_read(tiny_dir, tmp_path):
    folder = tmp_path / "tiny_garments" / "1.0.0"
    folder.mkdir(parents=True)
    for file in (tiny_dir / "tiny_garments" / "1.0.0").iterdir():
        content = file.read_bytes()
        if file.name == "dataset_info.json":
            content = content.replace(b'"array_record"', b'"tfrecord"')
        (folder / file.name.replace("array_record", "tfrecord")).write_bytes(content)
    message = fails("tiny_garments", str(tmp_path))
    assert f"{folder} is prepared as tfrecord, which only TensorFlow reads; remove it" in message
    assert "file_format='array_record'" in message


def test_splits_become_parts_by_their_names(tiny_builder, tmp_path):
    def parts(*splits):
        class Fake:
            name = "fake"

            class info:  # noqa: N801
                splits = None

        infos = [
            tfds.core.SplitInfo(name=split, shard_lengths=[3], num_bytes=1, filename_template=template(split))
            for split in splits
        ]
        Fake.info.splits = tfds.core.splits.SplitDict(infos)
        return assign_parts(Fake, ())

    def template(split):
        return tfds.core.ShardedFileTemplate(
            data_dir=tmp_path, dataset_name="fake", split=split, filetype_suffix="array_record"
        )

    assert parts("train", "test") == {"train": "train", "test": "test"}
    assert parts("test", "extra", "train", "validation") == {
        "train": "train",
        "validation": "validation",
        "test": "test",
    }
    assert parts("train", "validation") == {"train": "train", "validation": "test"}
    assert parts("train", "extra") == {"train": "train"}
    assert parts("everything") == {"everything": "train"}
    with pytest.raises(DataError, match=r"fake has the splits one \(3\), two \(3\); set `splits`"):
        parts("one", "two")


def test_records_are_serialised_examples(tiny_dir):
    builder = prepared_builder("tiny_garments", str(tiny_dir))
    records = split_records(builder, ("test", "train[:3]"))
    assert {split: len(found) for split, found in records.items()} == {"test": 30, "train[:3]": 3}
    assert isinstance(records["test"][0], bytes)


@pytest.fixture
def copied(tiny_dir, tmp_path):
    """A copy of the prepared data set whose descriptions can be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_dir, folder)

    def change(name, old, new):
        (path,) = folder.rglob(name)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return folder, change


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name"])
def test_a_data_set_cannot_have_a_module_imported(copied, key):
    """Found by fuzzing: TFDS imports whatever module the description of the features names."""
    folder, change = copied
    change(
        "features.json",
        '"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text"',
        f'"{key}": "this.Zen"',
    )
    message = fails("tiny_garments", str(folder))
    assert "features.json has features of a class that is not TFDS's own, 'this.Zen'" in message
    assert "this" not in sys.modules


def test_damaged_descriptions_are_named(copied):
    """Found by fuzzing: errors of parsers came through."""
    folder, change = copied
    change(
        "features.json",
        "{",
        "",
    )
    assert re.search(r"features.json is damaged \(", fails("tiny_garments", str(folder)))
    shutil.copy(next(folder.rglob("dataset_info.json")), next(folder.rglob("features.json")))
    change("dataset_info.json", '"name"', "name")
    assert f"`name` = 'tiny_garments' in {folder}: " in fails("tiny_garments", str(folder))


@pytest.mark.parametrize("template", ["{DATASET", "{OTHER}-{SPLIT}"])
def test_a_template_of_file_names_that_is_none_is_refused(copied, template):
    """Found by fuzzing: the error of the template came through."""
    folder, change = copied
    change("dataset_info.json", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", template)
    with pytest.raises(DataError, match="the files of split 'train' cannot be told"):
        assign_parts(prepared_builder("tiny_garments", str(folder)), ())


def test_records_elsewhere_and_names_that_are_no_path_are_refused(copied):
    folder, change = copied
    change("dataset_info.json", "{DATASET}-{SPLIT}", "../../{DATASET}-{SPLIT}")
    with pytest.raises(DataError, match=r"split 'train' names \.\./\.\./tiny_.*, a file elsewhere"):
        split_records(prepared_builder("tiny_garments", str(folder)), ["train"])
    change("dataset_info.json", "../../{DATASET}-{SPLIT}", "x" * 300)
    with pytest.raises(DataError, match="is missing; prepare tiny_garments again"):
        split_records(prepared_builder("tiny_garments", str(folder)), ["train"])
