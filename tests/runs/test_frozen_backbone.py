import jax
import numpy as np
import pytest
import safetensors.numpy

from configs import garments
from gradrev_jax.errors import WeightsError
from gradrev_jax.models.alexnet import TAPS
from gradrev_jax.runs.frozen_backbone import BACKBONE_FILE, open_frozen_backbone, save_frozen_backbone


@pytest.fixture
def config(small_backbone):
    config = garments.get_config()
    config.model.update({"backbone": small_backbone, "freeze_backbone": True, "tap": TAPS[0]})
    return config


def test_the_weights_in_the_folder_are_those_of_the_run(config, tmp_path):
    made = open_frozen_backbone(config, tmp_path)
    save_frozen_backbone(tmp_path, made)
    config.seed += 1
    opened = open_frozen_backbone(config, tmp_path)
    assert opened.fingerprint == made.fingerprint
    jax.tree.map(np.testing.assert_array_equal, opened.variables, made.variables)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("params/Dense_0/bias", None, "it differs in params/Dense_0/bias; restore it"),
        ("params/Dense_0/bias", np.zeros(3, np.float32), "it differs in params/Dense_0/bias"),
        ("params/Dense_0/bias", np.zeros(16, np.float16), "it differs in params/Dense_0/bias"),
        ("params/Dense_0", np.zeros(16, np.float32), "it differs in params/Dense_0;"),
        (
            "params/Dense_0/bias",
            np.full(16, np.inf, np.float32),
            "numbers that are not finite in params/Dense",
        ),
    ],
)
def test_other_weights_are_refused(config, tmp_path, name, array, message):
    save_frozen_backbone(tmp_path, open_frozen_backbone(config, tmp_path))
    tensors = safetensors.numpy.load_file(tmp_path / BACKBONE_FILE) | {name: array}
    changed = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    (tmp_path / BACKBONE_FILE).write_bytes(safetensors.numpy.save(changed))
    with pytest.raises(WeightsError, match=f"{BACKBONE_FILE} .*{message}"):
        open_frozen_backbone(config, tmp_path)
