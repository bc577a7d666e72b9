import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.formats.table.columns import AttributeRules
from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.runs import builders, formats
from gradrev_jax.runs.fields.table import default_config


@pytest.mark.parametrize("form", ["table", "adde"])
def test_a_catalogue_that_is_not_there_is_named_whole_with_both_flags(
    tiny_config, tmp_path, monkeypatch, form
):
    monkeypatch.chdir(tmp_path)
    tiny_config.data.format = form
    both = "--config.data.{0}=FOLDER for train.py, --data.{0}=FOLDER for commands that read a run"
    tiny_config.data.root = "no/where"
    with pytest.raises(
        DataError, match=f"^{tmp_path}/no/where does not exist; set data.root: {both.format('root')}"
    ):
        builders.open_catalogue(tiny_config)
    tiny_config.data.root = "~nobodyhere/x"
    with pytest.raises(ConfigError, match="^data.root=~nobodyhere/x: there is no user"):
        builders.open_catalogue(tiny_config)
    if form == "adde":
        tiny_config.data.update({"root": str(tmp_path), "splits": "splits"})
        fields = both.format("splits")
        said = f"^{tmp_path}/splits does not exist; .*{fields}.*; a relative one starts in data.root$"
        with pytest.raises(DataError, match=said):
            builders.open_catalogue(tiny_config)


@pytest.mark.parametrize("reader", ["table", "adde", "tfds"])
def test_a_folder_of_a_user_who_is_not_there_is_named(tiny_config, reader):
    field = "tfds_dir" if reader == "tfds" else "root"
    tiny_config.data.format = reader
    tiny_config.data.tfds_name = "x"
    tiny_config.data[field] = "~no_user_of_that_name/x"
    with pytest.raises(ConfigError, match=rf"data\.{field}=~no_user_of_that_name/x: there is no user"):
        builders.open_catalogue(tiny_config)


def test_every_field_of_a_tfds_data_set_reaches_its_reader(unchecked, monkeypatch, tmp_path):
    from configs import tfds

    config = tfds.get_config("celeb_a")
    config.seed = 7
    changed = {
        "test_fraction": 0.4,
        "min_count": 3,
        "limit": 50,
        "tfds_image": "face",
        "tfds_splits": ("a", "b"),
        "split_by": "order",
        "largest_image": 12.0,
        "outside": False,
    }
    config.data.update({**changed, "tfds_dir": "~/sets", "tfds_attributes": ("hat=attributes/Hat",)})
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {}

    def read(name, data_dir, features, *, splits, sampling, limits):
        options = {**vars(features), **vars(sampling), **vars(limits), "splits": splits}
        given.update(name=name, data_dir=data_dir, **options)

    monkeypatch.setattr(formats, "read_tfds", read)
    formats.FORMATS["tfds"].open(config.data, config.seed)
    assert given == {
        "name": "celeb_a",
        "data_dir": str(tmp_path / "sets"),
        "attributes": {"hat": "attributes/Hat"},
        "image_feature": "face",
        "splits": ("a", "b"),
        "test_fraction": 0.4,
        "min_count": 3,
        "limit": 50,
        "seed": 7,
        "split_by": "order",
        "largest_image": 12.0,
        "outside": False,
    }
    config.data.tfds_dir = ""
    formats.FORMATS["tfds"].open(config.data, config.seed)
    assert given["data_dir"] is None


def test_every_field_of_a_table_reaches_its_reader(unchecked, monkeypatch, tmp_path):
    from configs import catalogue

    config = catalogue.get_config()
    changed = {
        "table": "t.csv",
        "image_column": "file",
        "image_template": "{id}.jpg",
        "test_fraction": 0.4,
        "limit": 50,
        "attributes": ("color", "0"),
        "ignore": ("sku",),
        "split_by": "order",
        "verbatim": ("size",),
        "min_count": 3,
        "largest_image": 12.0,
        "outside": True,
    }
    config.data.update({**changed, "root": "~/set", "split_column": "", "delimiter": "tab"})
    config.data.attributes = ("color", 0)  # as the command line has "('color',0)"
    config.data.update({"missing_words": ("x",), "merge_spellings": False, "value_separator": "|"})
    config.data.embeddings = "vectors.npz"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    given = {}

    def read(root, layout, rules, sampling, *, limits, say):
        options = {**vars(layout), **vars(rules), **vars(sampling), **vars(limits)}
        given.update(root=root, say=say, **options)

    monkeypatch.setattr(formats, "read_table", read)
    table = formats.FORMATS["table"]
    table.open(config.data, 7)
    expected = {**changed, "root": tmp_path / "set", "seed": 7, "split_column": None, "delimiter": "\t"}
    rules = CellRules(("x",), merge_spellings=False, value_separator="|")
    expected |= {"cells": rules, "say": formats.say_note, "files_required": False}
    assert given == {**expected, "known": {}}
    table.reopen(config.data, 7, AttributeSchema(("color",), (("blue", "red"),)))
    assert given == {**expected, "known": {"color": ("blue", "red")}}


def test_what_is_recognised_in_a_table_is_said_on_stderr(tmp_path, capsys):
    from configs import catalogue

    rows = [f"{row}.jpg;{('train', 'test')[row % 2]};{'rgb'[row % 3]}" for row in range(12)]
    path = tmp_path / "attributes.csv"
    path.write_text("\n".join(["image;split;color", *rows]))
    for row in range(12):
        (tmp_path / f"{row}.jpg").touch()
    config = catalogue.get_config()
    config.data.root = str(tmp_path)
    config.protocol.ks = (1,)
    builders.open_catalogue(config)
    note = f"note: {path}: its columns are separated by semicolons; `delimiter` sets another "
    note += "(config: data.delimiter)\n"
    assert capsys.readouterr() == ("", note)


def test_the_fields_behind_a_fault_are_named(tmp_path):
    (tmp_path / "attributes.csv").write_text("image,split,color\na.jpg,train,red\n")
    config = default_config()
    config.data.root = str(tmp_path)
    config.data.image_column = "picture"
    with pytest.raises(DataError, match=r"`image_column`\. \(config: data\.image_column\)$"):
        formats.FORMATS["table"].open(config.data, 0)
    config.data.update({"image_column": "image", "split_column": "", "limit": 1, "test_fraction": 0.5})
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError) as error:
        formats.FORMATS["table"].open(config.data, 0)
    fields = ("split_column", "test_fraction", "split_by", "limit")
    assert all(f"data.{field}" in str(error.value) for field in fields)
    assert ", seed, " in str(error.value)


def test_the_fields_of_a_tfds_data_set_are_named(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    config = default_config()
    config.data.update({"tfds_dir": str(tmp_path), "tfds_name": "shapes_3d"})
    with pytest.raises(DataError, match=r"\(config: data\.tfds_name, data\.tfds_dir\)$"):
        formats.FORMATS["tfds"].open(config.data, 0)


def test_the_options_of_a_table_are_those_of_the_default_config():
    assert AttributeRules().cells == CellRules()
