import json
import pathlib
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from gradrev_jax.cli import repeated_config, unknown_field

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ConfigDict({"seed": 0, "train": {"epochs": 25, "decay_epochs": 10}})

TINY = (
    "--config=configs/garments.py --config.data.count=60 --config.data.test_fraction=0.4 "
    "--config.model.width=0.03125 --config.model.feature_dim=4 --config.train.batch_size=8 "
    "--config.train.epochs=1 --config.protocol.ks=(1,5) --config.protocol.batch_size=10"
).split()


def command(script, *arguments):
    return subprocess.run([sys.executable, script, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_fields_that_exist_are_fine():
    arguments = ["--config=a.py", "--config.train.epochs=3", "-config.seed", "4", "--other.x=1", "word"]
    assert unknown_field(arguments, config=CONFIG) is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.train.epoch=3", "no field train.epoch; did you mean train.epochs or train.decay_epochs"),
        ("--config.epochs=3", "no field epochs; did you mean train.epochs"),
        ("--config.train=3", "no field train; did you mean"),
        ("--config.zzz=3", "no field zzz; configs/default.py has all there are"),
    ],
)
def test_an_unknown_field_is_named_with_its_nearest(argument, message):
    assert message in unknown_field([argument], config=CONFIG)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config=a.py", "--config=b.py", "--config.seed=1"],
        ["--config", "a.py", "-config.seed=1", "-config=b.py"],
    ],
)
def test_a_config_that_is_given_twice_is_named_with_both_files(arguments):
    message = repeated_config(arguments, "config")
    assert message.startswith("--config is given 2 times, a.py and b.py, of which -")
    assert message.endswith("config.seed would be a field; give it once")
    without_fields = [argument for argument in arguments if "seed" not in argument]
    assert repeated_config(without_fields, "config") is None
    assert repeated_config(["--config=a.py", "--config.seed=1", "--configs=b"], "config") is None


def test_train_and_evaluate_as_typed(tmp_path, cache_dir):
    run = tmp_path / "run"
    trained = command("train.py", *TINY, f"--workdir={run}", f"--config.data.cache_dir={cache_dir}")
    assert trained.returncode == 0, trained.stderr
    assert f"python evaluate.py --workdir={run}" in trained.stdout
    assert "Traceback" not in trained.stderr
    assert "loss_cls" in trained.stderr  # the progress bar
    assert "checkpoint_manager" not in trained.stderr  # the libraries are quiet

    evaluated = command("evaluate.py", f"--workdir={run}", "--protocol.ks=(2,)", "--step=latest")
    assert evaluated.returncode == 0, evaluated.stderr
    assert list(json.loads((run / "report" / "metrics.json").read_text())["hit_rate"]) == ["2"]
    assert "hit_rate" in evaluated.stdout
    assert "@2" in evaluated.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["--config.train.epoch=3"], "no field train.epoch; did you mean train.epochs"),
        ("train.py", ["--config.train.epochs=many"], "--config.train.epochs=many: invalid literal for int"),
        ("train.py", ["--config.train.epochs=0"], "train.epochs = 0: at least 1"),
        ("train.py", ["spare"], "unknown arguments: spare"),
        (
            "train.py",
            ["--config=configs/catalogue.py", "--config.data.image_size=64"],
            "--config is given 2 times, configs/garments.py and configs/catalogue.py, of which --config.data",
        ),
        ("train.py", ["--config=configs/none.py"], "configs/none.py does not exist"),
        (
            "train.py",
            ["--config=configs/garments.py:none"],
            "unknown word 'none' after the config's name",
        ),
        ("evaluate.py", [], "is not a run of train.py: it has no config.json"),
        ("evaluate.py", ["--protocol.k=3"], "the protocol has no field k; did you mean ks"),
    ],
)
def test_what_cannot_run_says_why_in_one_message_and_writes_nothing(tmp_path, script, arguments, message):
    config = ["--config=configs/garments.py"] if script == "train.py" else []
    result = command(script, *config, f"--workdir={tmp_path / 'run'}", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
