"""Shapes in signatures are checked in every test: jaxtyping's annotations, enforced by beartype."""

import os
import pathlib

# Compiling the same few tiny models takes most of the time; what they then compute takes none.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# So compile each once, for all tests, workers and the processes that tests start.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# As in pyproject.toml, for the processes that tests start.
os.environ.setdefault("PYTHONWARNINGS", "ignore:Error reading persistent compilation cache entry")

import jaxtyping
import numpy as np
import pytest

# Before the first import of the package, so that every function in it is wrapped.
jaxtyping.install_import_hook("gradrev_jax", "beartype.beartype")


@pytest.fixture
def unchecked():
    """Signatures unchecked, as a user has them: what does not fit must meet the code's own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def rng():
    """Seeded random numbers."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """One cache of drawn images for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_tiny_config(cache_dir):
    """Makes a real run in miniature: two epochs of four steps on drawn garments."""

    def make():
        from configs import garments

        config = garments.get_config()
        config.data.cache_dir = str(cache_dir)
        config.data.count = 60
        config.data.test_fraction = 0.4
        config.model.width = 1 / 32
        config.model.feature_dim = 4
        config.train.batch_size = 8
        config.train.epochs = 2
        config.train.log_every = 2
        config.protocol.ks = (1, 5)
        config.protocol.batch_size = 10
        config.protocol.normalize = "global"
        config.protocol.baselines = ()
        config.protocol.leakage = False
        return config

    return make


@pytest.fixture(scope="module")
def small_backbone():
    """The name of a backbone that compiles in no time, which ``BACKBONES`` has during a module's tests."""
    from gradrev_jax.models.alexnet import TAPS
    from gradrev_jax.models.backbones import BACKBONES, Backbone
    from gradrev_jax.models.inputs import PixelInputs
    from tests.small_backbone import LeftColour

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "small", Backbone(LeftColour, inputs=PixelInputs(4), taps=TAPS))
        yield "small"


@pytest.fixture
def tiny_config(make_tiny_config):
    """A real run in miniature, to change as a test likes."""
    return make_tiny_config()


@pytest.fixture(scope="session")
def shop_run(make_tiny_config, tmp_path_factory):
    """The folder of a tiny run whose search compares labels and looks; not to be changed."""
    from gradrev_jax.evaluation.run import evaluate
    from gradrev_jax.training.run import train

    config = make_tiny_config()
    config.protocol.representation = "hybrid"
    config.protocol.look = "0.5"
    config.protocol.edit = "replace"
    config.protocol.strength = "1.5"
    workdir = tmp_path_factory.mktemp("shop") / "run"
    train(config, workdir, progress=False)
    evaluate(workdir, progress=False)
    return workdir


@pytest.fixture(scope="session")
def paper_run(make_tiny_config, tmp_path_factory):
    """The folder of a tiny run that edits features by Eq. 7; not to be changed."""
    from gradrev_jax.training.run import train

    config = make_tiny_config()
    config.protocol.strength = "0.7"
    workdir = tmp_path_factory.mktemp("paper") / "run"
    train(config, workdir, progress=False)
    return workdir
