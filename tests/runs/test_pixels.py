import pathlib

import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import ConfigError
from gradrev_jax.runs import builders, pixels

SCHEMA = AttributeSchema(("color",), (("blue", "red"),))


def raise_no_home(path):
    if str(path).startswith("~"):
        raise RuntimeError("Could not determine home directory.")
    return path


def without_home(monkeypatch):
    """As in a container whose user has no entry among the system's."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pathlib.Path, "expanduser", raise_no_home)


def test_images_are_kept_where_the_user_or_the_system_says(tiny_config, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    tiny_config.data.cache_dir = "/mine"
    assert pixels.cache_folder(tiny_config.data.cache_dir) == pathlib.Path("/mine")
    tiny_config.data.cache_dir = "~/mine"
    assert pixels.cache_folder(tiny_config.data.cache_dir) == tmp_path / "mine"
    tiny_config.data.cache_dir = ""
    assert pixels.cache_folder(tiny_config.data.cache_dir) == pathlib.Path("/somewhere/gradrev_jax")
    for empty in (
        lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""),
        lambda: monkeypatch.delenv("XDG_CACHE_HOME"),
    ):
        empty()
        assert pixels.cache_folder(tiny_config.data.cache_dir) == tmp_path / ".cache" / "gradrev_jax"


def test_without_a_home_folder_the_cache_must_be_named(monkeypatch):
    without_home(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"no home folder for the image cache, .*: set data.cache_dir, or one"
    ):
        pixels.cache_folder("")
    with pytest.raises(ConfigError, match=r"data.cache_dir=~/mine: the home folder is not known"):
        pixels.cache_folder("~/mine")
    assert pixels.cache_folder("/mine") == pathlib.Path("/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert pixels.cache_folder("") == pathlib.Path("/caches/gradrev_jax")


def test_the_cache_keeps_the_limit_of_the_config(tiny_config, tmp_path):
    tiny_config.data.cache_dir = str(tmp_path)
    catalogue = builders.open_catalogue(tiny_config)
    for limit, kept in ((0, 2), (1e-6, 1), (50, 2)):
        tiny_config.data.cache_limit = limit
        for part in ("validation", "test"):
            pixels.open_images(catalogue, part, tiny_config)
        assert len(list(tmp_path.iterdir())) == kept
        for path in tmp_path.iterdir():
            path.unlink()


def test_images_are_read_from_that_folder(tiny_config, tmp_path):
    tiny_config.data.cache_dir = str(tmp_path)
    images = pixels.open_images(builders.open_catalogue(tiny_config), "validation", tiny_config)
    assert images.shape == (4, 64, 64, 3)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]
