import pytest

from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.training.run import train


@pytest.fixture(scope="package")
def shop_config(make_tiny_config):
    """The config of a tiny run whose search compares labels and looks."""
    config = make_tiny_config()
    config.protocol.representation = "hybrid"
    config.protocol.look = "0.5"
    config.protocol.edit = "replace"
    config.protocol.strength = "1.5"
    return config


@pytest.fixture(scope="package")
def shop_run(shop_config, tmp_path_factory):
    """The folder of a tiny run that was trained and evaluated."""
    workdir = tmp_path_factory.mktemp("shop") / "run"
    train(shop_config, workdir, progress=False)
    evaluate(workdir, progress=False)
    return workdir


@pytest.fixture(scope="package")
def paper_run(make_tiny_config, tmp_path_factory):
    """The folder of a tiny run that edits features by Eq. 7."""
    config = make_tiny_config()
    config.protocol.strength = "0.7"
    workdir = tmp_path_factory.mktemp("paper") / "run"
    train(config, workdir, progress=False)
    return workdir
