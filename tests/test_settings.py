import dataclasses
import pathlib

import jax.numpy as jnp
import pytest

from gradrev_jax import settings
from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.errors import ConfigError
from gradrev_jax.models.encoder import AttributeEncoder

SCHEMA = AttributeSchema(("color",), (("blue", "red"),))


def test_a_catalogue_is_opened_with_its_validation_part_held_out(tiny_config):
    parts = settings.open_catalogue(tiny_config).parts
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 32, "validation": 4, "test": 24}


def test_a_k_beyond_the_gallery_is_an_error_with_both_numbers(tiny_config):
    tiny_config.protocol.ks = (1, 24)
    settings.open_catalogue(tiny_config)
    tiny_config.protocol.ks = (25, 1)
    with pytest.raises(ConfigError, match=r"the 25 nearest, but the gallery .* has 24 images"):
        settings.open_catalogue(tiny_config)


@pytest.mark.parametrize("section", ["protocol", "memory"])
def test_more_changes_than_attributes_are_refused_with_their_number(tiny_config, section):
    catalogue = settings.open_catalogue(tiny_config)
    most = catalogue.schema.num_attributes
    ask = {
        "protocol": lambda: settings.queries_of(catalogue, "test", tiny_config),
        "memory": lambda: settings.triplets_of(catalogue, tiny_config),
    }[section]
    tiny_config[section].num_changes = most + 1
    first = catalogue.schema.names[0]
    message = rf"^{section}.num_changes = {most + 1}: at most {most}, as many attributes as .* \({first}, "
    with pytest.raises(ConfigError, match=message):
        ask()
    if section == "protocol":  # before anything is trained
        with pytest.raises(ConfigError, match=message):
            settings.open_catalogue(tiny_config)
    tiny_config[section].num_changes = 1
    assert len(ask())


def test_an_excluded_query_is_not_there_to_be_found(tiny_config):
    tiny_config.protocol.ks = (24,)
    tiny_config.protocol.exclude_query = True
    with pytest.raises(
        ConfigError, match=r"the 24 nearest, but the gallery .* has 23 images besides the query"
    ):
        settings.open_catalogue(tiny_config)


def test_overrides_are_checked(tiny_config):
    settings.override(tiny_config, "protocol", {"ks": (3,), "exclude_query": True})
    assert tiny_config.protocol.ks == (3,)
    with pytest.raises(ConfigError, match="protocol has no field 'exclude_qery'; it has"):
        settings.override(tiny_config, "protocol", {"exclude_qery": True})
    with pytest.raises(ConfigError, match="protocol.ks = '5': "):
        settings.override(tiny_config, "protocol", {"ks": "5"})


@pytest.mark.parametrize("strengths", [((1, 2), (3,)), ((1.0, "x"),), ((1.0,),), ((float("nan"),) * 6,) * 6])
def test_a_strength_matrix_must_be_n_by_n_numbers(tiny_config, strengths):
    schema = settings.open_catalogue(tiny_config).schema
    assert settings.reversal_scale(tiny_config, schema) == 1.0
    tiny_config.reversal.strengths = strengths
    with pytest.raises(ConfigError, match=r"reversal\.strengths"):
        settings.reversal_scale(tiny_config, schema)


def test_strengths_multiply_the_scale(tiny_config):
    tiny_config.reversal.scale = 0.5
    tiny_config.reversal.strengths = tuple(tuple(range(n, n + 6)) for n in range(6))
    scale = settings.reversal_scale(tiny_config, settings.open_catalogue(tiny_config).schema)
    assert scale[1].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_images_are_kept_where_the_user_or_the_system_says(tiny_config, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    tiny_config.data.cache_dir = "/mine"
    assert settings.cache_dir(tiny_config) == pathlib.Path("/mine")
    tiny_config.data.cache_dir = "~/mine"
    assert settings.cache_dir(tiny_config) == tmp_path / "mine"
    tiny_config.data.cache_dir = ""
    assert settings.cache_dir(tiny_config) == pathlib.Path("/somewhere/gradrev_jax")
    for empty in (
        lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""),
        lambda: monkeypatch.delenv("XDG_CACHE_HOME"),
    ):
        empty()
        assert settings.cache_dir(tiny_config) == tmp_path / ".cache" / "gradrev_jax"


def test_images_are_read_from_that_folder(tiny_config, tmp_path):
    tiny_config.data.cache_dir = str(tmp_path)
    images = settings.open_images(settings.open_catalogue(tiny_config), "validation", tiny_config)
    assert images.shape == (4, 64, 64, 3)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def test_every_field_of_the_encoder_comes_from_the_config(tiny_config):
    changed = {"feature_dim": 7, "tap": "fc7", "width": 0.25, "dropout": 0.125, "heads": "pairwise"}
    tiny_config.model.update(changed)
    tiny_config.reversal.reach = "mlp"
    tiny_config.precision = "bfloat16"
    encoder = settings.build_encoder(tiny_config, SCHEMA)
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
    }
    config.data.update({**changed, "tfds_dir": "~/sets", "tfds_attributes": ("hat=attributes/Hat",)})
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {}
    monkeypatch.setattr(settings, "read_tfds", lambda name, **options: given.update(name=name, **options))
    settings.FORMATS["tfds"](config.data, config.seed)
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
    }
    config.data.tfds_dir = ""
    settings.FORMATS["tfds"](config.data, config.seed)
    assert given["data_dir"] is None
