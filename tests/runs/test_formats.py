import pytest

from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.runs import builders, formats


@pytest.mark.parametrize("form", ["table", "adde"])
def test_a_catalogue_that_is_not_there_is_named_whole_with_both_flags(
    tiny_config, tmp_path, monkeypatch, form
):
    monkeypatch.chdir(tmp_path)
    tiny_config.data.format = form
    both = "as --config.data.{0}=FOLDER for train.py or --data.{0}=FOLDER for evaluate.py"
    tiny_config.data.root = "no/where"
    with pytest.raises(
        DataError, match=f"^{tmp_path}/no/where does not exist; set data.root, {both.format('root')}"
    ):
        builders.open_catalogue(tiny_config)
    tiny_config.data.root = "~nobodyhere/x"
    with pytest.raises(ConfigError, match="^data.root=~nobodyhere/x: there is no user"):
        builders.open_catalogue(tiny_config)
    if form == "adde":
        tiny_config.data.update({"root": str(tmp_path), "splits": "splits"})
        with pytest.raises(DataError, match=f"^{tmp_path}/splits does not exist; .*{both.format('splits')}"):
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
    }
    config.data.update({**changed, "tfds_dir": "~/sets", "tfds_attributes": ("hat=attributes/Hat",)})
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {}
    monkeypatch.setattr(formats, "read_tfds", lambda name, **options: given.update(name=name, **options))
    formats.FORMATS["tfds"](config.data, config.seed)
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
    }
    config.data.tfds_dir = ""
    formats.FORMATS["tfds"](config.data, config.seed)
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
    }
    config.data.update({**changed, "root": "~/set", "split_column": "", "delimiter": "tab"})
    config.data.attributes = ("color", 0)  # as the command line has "('color',0)"
    config.data.update({"missing_words": ("x",), "merge_spellings": False, "value_separator": "|"})
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    given = {}
    monkeypatch.setattr(formats, "read_table", lambda root, **options: given.update(root=root, **options))
    formats.FORMATS["table"](config.data, 7)
    expected = {**changed, "root": tmp_path / "set", "seed": 7, "split_column": None, "delimiter": "\t"}
    rules = CellRules(("x",), merge_spellings=False, value_separator="|")
    assert given == {**expected, "rules": rules, "say": formats.say}


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
    note = f"note: {path}: its columns are separated by semicolons; data.delimiter sets another\n"
    assert capsys.readouterr() == ("", note)
