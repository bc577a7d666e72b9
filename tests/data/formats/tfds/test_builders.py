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
