import concurrent.futures
import json
import re
import shutil
import sys

import pytest

from gradrev_jax.data.formats.tfds.builders import assign_parts, import_tfds, prepared_builder, split_records
from gradrev_jax.data.formats.tfds.own_features import own_features_only
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


TEXT = '"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text"'
LEGACY = {"type": "this.Zen", "content": {}}
SEQUENCE = {
    "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
    "jsonFeature": {"json": json.dumps({"feature": LEGACY, "length": 1})},
}


def link_version(folder):
    version = folder / "tiny_garments" / "1.0.0"
    version.rename(folder / "elsewhere")
    version.symlink_to(folder / "elsewhere")


def move_to_info(folder):
    """Has the features in the description of the whole data set, of which TFDS reads them, too."""
    (info,) = folder.rglob("dataset_info.json")
    (features,) = folder.rglob("features.json")
    info.write_text(json.dumps(json.loads(info.read_text()) | {"features": json.loads(features.read_text())}))
    features.write_text(features.read_text().replace('"this.Zen"', TEXT.split()[1]))


@pytest.fixture
def no_zen(monkeypatch):
    """The module ``this`` not imported, neither before nor after."""
    monkeypatch.delitem(sys.modules, "this", raising=False)
    yield
    sys.modules.pop("this", None)


@pytest.mark.parametrize(
    ("content", "name", "arrange"),
    [
        ('"pythonClassName": "this.Zen"', "tiny_garments:1.0.0", None),
        ('"python_class_name": "this.Zen"', "tiny_garments:1.0.0", None),
        (LEGACY, "tiny_garments:1.0.0", None),
        (SEQUENCE, "tiny_garments:1.0.0", None),
        ('"pythonClassName": "this.Zen"', "TinyGarments:1.0.0", None),
        ('"pythonClassName": "this.Zen"', "tiny_garments/version=1.0.0", None),
        ('"pythonClassName": "this.Zen"', "tiny_garments:1.0.0", link_version),
        ('"pythonClassName": "this.Zen"', "tiny_garments:1.0.0", move_to_info),
        ('"pythonClassName": "this.Zen"', "tiny_garments", None),
    ],
    ids=["camel", "snake", "legacy", "nested", "upper", "version", "link", "info", "plain"],
)
@pytest.mark.usefixtures("no_zen")
def test_a_data_set_cannot_have_a_module_imported(copied, monkeypatch, content, name, arrange):
    """Found by fuzzing and by reading: TFDS imports whatever module the description of features names."""
    folder, change = copied
    monkeypatch.delitem(tfds.core.registered._DATASET_REGISTRY, "tiny_garments")
    if isinstance(content, str):
        change("features.json", TEXT, content)
    else:
        next(folder.rglob("features.json")).write_text(json.dumps(content))
    if arrange:
        arrange(folder)
    message = fails(name, str(folder))
    assert "has features of a class that is not TFDS's own, 'this.Zen'" in message
    assert str(folder) in message
    assert "this" not in sys.modules


@pytest.mark.usefixtures("no_zen")
def test_other_users_of_tfds_have_features_of_their_own(tiny_dir, tmp_path):
    """In other threads meanwhile, and in this one before and after."""
    connector = tfds.features.FeatureConnector

    def is_imported():
        sys.modules.pop("this", None)
        with pytest.raises(ValueError, match=r"Unrecognized FeatureConnector type: this\.Zen"):
            connector.cls_from_name("this.Zen")
        return "this" in sys.modules

    with own_features_only(tfds, "mine"), concurrent.futures.ThreadPoolExecutor() as pool:
        with pytest.raises(DataError, match=r"mine has features of a class that is not TFDS's own"):
            connector.cls_from_name("this.Zen")
        assert pool.submit(is_imported).result()
        assert pool.submit(prepared_builder, "tiny_garments:1.0.0", str(tiny_dir)).result()
        with pytest.raises(DataError, match="mine has features"):
            connector.cls_from_name("this.Zen")
    assert is_imported()
    (tmp_path / "features.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        connector.from_config(tmp_path)


@pytest.mark.parametrize("name", ["tiny_garments", "tiny_garments:1.0.0"])
def test_damaged_descriptions_are_named(copied, name):
    """Found by fuzzing: errors of parsers came through, with the code of the data set and without it."""
    folder, change = copied
    change(
        "features.json",
        "{",
        "",
    )
    assert re.search(r"features.json is damaged \(", fails(name, str(folder)))
    shutil.copy(next(folder.rglob("dataset_info.json")), next(folder.rglob("features.json")))
    change("dataset_info.json", '"name"', "name")
    assert f"`name` = {name!r} in {folder}: " in fails(name, str(folder))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"type": 3}', "[]", "{}", '{"pythonClassName": null}'])
def test_a_description_of_no_features_is_named(copied, content):
    folder, _ = copied
    (path,) = folder.rglob("features.json")
    path.write_text(content)
    message = fails("tiny_garments:1.0.0", str(folder))
    assert message.startswith((f"{path} is damaged (", f"{path} has features of a class that is not"))


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
