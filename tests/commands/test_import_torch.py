import jax
import numpy as np
import pytest

from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.restore import parameter_shapes, restore
from gradrev_jax.weights.adde import encoder_to_torch, memory_to_torch
from gradrev_jax.weights.writer import write_state_dict

TINY = (
    "--config=configs/garments.py --config.data.count=60 --config.data.test_fraction=0.4 "
    "--config.model.width=0.03125 --config.model.feature_dim=4 --config.protocol.ks=(1,5)"
).split()


@pytest.fixture
def encoder(tiny_config):
    return builders.build_encoder(tiny_config, builders.open_catalogue(tiny_config).schema)


@pytest.fixture
def files(encoder, tmp_path):
    """An encoder of halves and a memory of quarters."""
    n, j = encoder.schema.num_attributes, encoder.schema.num_values
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), parameter_shapes(encoder, 64))
    write_state_dict(tmp_path / "extractor.pth", encoder_to_torch(params, encoder.schema))
    write_state_dict(tmp_path / "memory.pth", memory_to_torch(np.full((j, n, 4), 0.25, np.float32)))
    return [f"--extractor={tmp_path}/extractor.pth", f"--memory={tmp_path}/memory.pth"]


def test_a_run_is_made_of_two_files(call, files, encoder, tmp_path):
    run = tmp_path / "run"
    ended = call("import_torch", *TINY, *files, f"--workdir={run}")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines() == [
        f"Next: python evaluate.py --workdir={run}",
        'or, to train on: python train.py, the same --config, and --config.model.tap="fc6_relu" '
        "--config.model.heads=\"shared\" --config.stages=\"('encoder', 'memory')\" "
        f'--config.train.max_steps="0" --workdir={run}',
    ]
    number, params, memory = restore(run, "memory", encoder, 64, "best")
    assert number == 0
    assert np.unique(memory) == 0.25
    assert np.unique(params["params"]["mlp_out"]["kernel"]) == 0.5
    assert workdir.read_json(run / "config.json")["stages"] == ["encoder", "memory"]


def test_what_does_not_fit_says_why_in_one_message_and_writes_nothing(call, files, tmp_path):
    width = "--config.model.feature_dim=5"
    ended = call("import_torch", *TINY, *files, f"--workdir={tmp_path / 'run'}", width)
    assert ended.status == 6
    assert ended.err == (
        f"error: {tmp_path}/extractor.pth: the file has features of width 4, `feature_dim` is 5 "
        "(config: model.feature_dim)\n"
    )
    assert not (tmp_path / "run").exists()
