import dataclasses

import jax.numpy as jnp
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.runs import builders

SCHEMA = AttributeSchema(("color",), (("blue", "red"),))


def test_a_catalogue_is_opened_with_its_validation_part_held_out(tiny_config):
    parts = builders.open_catalogue(tiny_config).parts
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 32, "validation": 4, "test": 24}


def test_overrides_are_checked(tiny_config):
    builders.override(tiny_config, "protocol", {"ks": (3,), "exclude_query": True})
    assert tiny_config.protocol.ks == (3,)
    with pytest.raises(ConfigError, match="protocol has no field 'exclude_qery'; it has"):
        builders.override(tiny_config, "protocol", {"exclude_qery": True})
    with pytest.raises(ConfigError, match="protocol.ks = '5': "):
        builders.override(tiny_config, "protocol", {"ks": "5"})


@pytest.mark.parametrize("strengths", [((1, 2), (3,)), ((1.0, "x"),), ((1.0,),), ((float("nan"),) * 6,) * 6])
def test_a_strength_matrix_must_be_n_by_n_numbers(tiny_config, strengths):
    schema = builders.open_catalogue(tiny_config).schema
    assert builders.reversal_scale(tiny_config, schema) == 1.0
    tiny_config.reversal.strengths = strengths
    with pytest.raises(ConfigError, match=r"reversal\.strengths"):
        builders.reversal_scale(tiny_config, schema)


def test_strengths_multiply_the_scale(tiny_config):
    tiny_config.reversal.scale = 0.5
    tiny_config.reversal.strengths = tuple(tuple(range(n, n + 6)) for n in range(6))
    scale = builders.reversal_scale(tiny_config, builders.open_catalogue(tiny_config).schema)
    assert scale[1].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_only_where_a_catalogue_lies_may_change_after_training(tiny_config):
    builders.move_data(tiny_config, {"root": "/new", "workers": 2})
    assert (tiny_config.data.root, tiny_config.data.workers) == ("/new", 2)
    with pytest.raises(
        ConfigError, match="data.image_size belongs to the run .*; what may be: .*data.root, "
    ):
        builders.move_data(tiny_config, {"image_size": 65})
    with pytest.raises(ConfigError, match="data has no field 'rot'"):
        builders.move_data(tiny_config, {"rot": "/new"})


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


def test_every_field_of_the_encoder_comes_from_the_config(tiny_config):
    changed = {"feature_dim": 7, "tap": "fc7", "width": 0.25, "dropout": 0.125, "heads": "pairwise"}
    tiny_config.model.update(changed)
    tiny_config.reversal.reach = "mlp"
    tiny_config.precision = "bfloat16"
    encoder = builders.build_encoder(tiny_config, SCHEMA)
    expected = {**changed, "reach": "mlp", "schema": SCHEMA, "dtype": jnp.bfloat16}
    fields = {field.name: field.default for field in dataclasses.fields(AttributeEncoder)}
    assert set(fields) - {"parent", "name"} == set(expected), "a new field needs a line here"
    assert {name: getattr(encoder, name) for name in expected} == expected
    assert not {name for name in expected if fields[name] == expected[name]}, "told from their defaults"


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
    monkeypatch.setattr(builders, "read_tfds", lambda name, **options: given.update(name=name, **options))
    builders.FORMATS["tfds"](config.data, config.seed)
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
    builders.FORMATS["tfds"](config.data, config.seed)
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
    monkeypatch.setattr(builders, "read_table", lambda root, **options: given.update(root=root, **options))
    builders.FORMATS["table"](config.data, 7)
    expected = {**changed, "root": tmp_path / "set", "seed": 7, "split_column": None, "delimiter": "\t"}
    rules = CellRules(("x",), merge_spellings=False, value_separator="|")
    assert given == {**expected, "rules": rules, "say": builders.say}


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
