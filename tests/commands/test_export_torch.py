import jax
import numpy as np
import pytest

from gradrev_jax.runs import builders
from gradrev_jax.runs.restore import parameter_shapes
from gradrev_jax.training.torch_runs import import_run
from gradrev_jax.weights.adde import encoder_to_torch
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.writer import write_state_dict


@pytest.fixture
def run(tiny_config, tmp_path):
    schema = builders.open_catalogue(tiny_config).schema
    shapes = parameter_shapes(builders.build_encoder(tiny_config, schema), 64)
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)
    write_state_dict(tmp_path / "given.pth", encoder_to_torch(params, schema))
    import_run(tiny_config, tmp_path / "run", tmp_path / "given.pth")
    return tmp_path / "run"


def test_a_run_is_exported_once_and_never_over_existing_files(call, run, tmp_path):
    arguments = f"--workdir={run}", f"--out={tmp_path / 'out'}", "--format=safetensors"
    ended = call("export_torch", *arguments)
    assert (ended.status, ended.out) == (0, f"{tmp_path}/out/extractor.safetensors\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["extractor.safetensors"]
    written = read_state_dict(tmp_path / "out" / "extractor.safetensors")
    given = read_state_dict(tmp_path / "given.pth")
    assert written.keys() == given.keys()
    for name, tensor in given.items():
        np.testing.assert_array_equal(written[name], tensor, strict=True)
    again = call("export_torch", *arguments, "--format=pth")
    assert again.err == f"error: {tmp_path}/out exists already; give a folder that does not\n"
    assert len(list((tmp_path / "out").iterdir())) == 1
