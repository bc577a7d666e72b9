import pytest

from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.models.alexnet import TAPS
from gradrev_jax.models.backbones import BACKBONES, Backbone
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.serving.export import export_model
from gradrev_jax.training.run import train
from tests.small_backbone import LeftColour


@pytest.fixture(scope="session")
def small_folders(make_tiny_config, tmp_path_factory):
    """A run with a backbone that ``BACKBONES`` has only while it is trained, and the model of the run."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "small", Backbone(LeftColour, inputs=PixelInputs(4), taps=TAPS))
        run = _small_run(make_tiny_config(), folder / "run")
        return run, export_model(run, folder / "model", progress=False)


@pytest.fixture(scope="module")
def small_run(small_folders, small_backbone):
    """A run with all that a model may have: a frozen backbone, a memory, and a class for missing labels."""
    return small_folders[0]


@pytest.fixture(scope="module")
def small_model(small_folders, small_backbone):
    """The model that it was exported as."""
    return small_folders[1]


def _small_run(config, workdir):
    config.model.update({"backbone": "small", "freeze_backbone": True})
    config.stages = ("encoder", "memory")
    config.data.update({"missing": "value", "missing_fraction": 0.2})
    config.memory.update({"triplets": 16, "batch_size": 8, "epochs": 1})
    config.train.epochs = 1
    train(config, workdir, progress=False)
    evaluate(workdir, progress=False)
    return workdir
