import sys

import pytest

from gradrev_commands.config_files import PROJECT, find_config, read_config
from gradrev_jax.errors import ConfigError


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another project's folder, with a package of its own called configs."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "default.py").write_text("NOTHING = 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder, text):
    path = folder / "configs" / "mine.py"
    path.write_text(text)
    return path


def test_a_config_is_looked_for_here_and_then_beside_train(elsewhere, monkeypatch):
    for name in ("configs/catalogue.py", "configs/catalogue", "catalogue", "catalogue.py"):
        assert find_config(name) == PROJECT / "configs" / "catalogue.py"
    mine = write(elsewhere, "")
    assert find_config("configs/mine.py") == find_config(str(mine)) == mine
    monkeypatch.setenv("HOME", str(elsewhere))
    assert find_config("~/configs/mine.py") == mine


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("other/catalogue", r"does not exist; did you mean configs/catalogue.py\?$"),
        ("catalog", r"does not exist; did you mean configs/catalogue.py\?$"),
        ("catalog.py", r"does not exist; did you mean configs/catalogue.py\?$"),
        ("configs/mine", r"does not exist; did you mean configs/mine.py\?$"),
        ("configs/xyz.py", "does not exist; there are configs/adde_peer.py, configs/catalogue.py, "),
        ("configs", "is a folder; "),
        ("", "--config is empty"),
    ],
)
def test_a_config_that_is_nowhere_is_named_with_its_nearest(elsewhere, path, message):
    write(elsewhere, "")
    with pytest.raises(ConfigError, match=message):
        find_config(path)


def test_this_projects_configs_are_imported_whatever_is_called_so_here(elsewhere):
    assert read_config(find_config("configs/deepfashion.py"), "adde_m").model.tap == "fc7"
    (elsewhere / "configs" / "common.py").write_text("EPOCHS = 3\n")
    text = "from configs import common, garments\ndef get_config():\n    config = garments.get_config()\n"
    before = {name for name in sys.modules if name.startswith("configs")}
    config = read_config(
        write(elsewhere, f"{text}    config.train.epochs = common.EPOCHS\n    return config\n")
    )
    assert config.train.epochs == 3
    assert config.is_locked
    assert {name for name in sys.modules if name.startswith("configs")} == before


@pytest.mark.parametrize(
    ("text", "word", "message"),
    [
        ("\ndef get_config(:\n", None, "mine.py, line 2: SyntaxError: invalid syntax"),
        ("import nothere\n", None, "mine.py, line 1: ModuleNotFoundError: No module named 'nothere'"),
        (
            "def get_config():\n    return 1 / 0\n",
            None,
            "mine.py, line 2: ZeroDivisionError: division by zero",
        ),
        (
            "import configs.default\ndef get_config():\n    configs.default.get_config().trian = 1\n",
            None,
            "line 3",
        ),
        ("x = 1\n", None, "mine.py has no function get_config"),
        ("def get_config(): return 1\n", "cpu", "cannot be called with the word 'cpu'"),
        ("def get_config(word): return 1\n", None, "cannot be called without a word"),
        ("def get_config(): return {}\n", None, "get_config returned dict, not a ConfigDict"),
    ],
)
def test_what_is_wrong_in_a_config_is_one_line_with_its_place(elsewhere, text, word, message):
    path = write(elsewhere, text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(path, word)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
