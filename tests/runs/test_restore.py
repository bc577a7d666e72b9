import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import CheckpointError, WorkdirError
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.restore import chosen_stage, restore

ENCODER = AttributeEncoder(AttributeSchema(("size",), (("s", "m"),)), feature_dim=4, width=1 / 32)


def params(value):
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), parameter_shapes(ENCODER, 64))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Checkpoints 1, the best, and 2 of either stage, full of the step's number."""
    directory = tmp_path_factory.mktemp("run")
    for stage in ("encoder", "memory"):
        with Checkpoints(directory / "checkpoints" / stage) as checkpoints:
            for step in (1, 2):
                tree = params(float(step))
                if stage == "memory":
                    tree = {"encoder": tree, "memory": jnp.full((2, 1, 4), -float(step))}
                checkpoints.save(step, {"params": tree, "rest": {"x": jnp.zeros(1)}}, score=-float(step))
    return directory


def test_stages():
    directory = pathlib.Path("run")
    assert chosen_stage(directory, ("encoder", "memory"), None) == "memory"
    assert chosen_stage(directory, ("encoder", "memory"), "encoder") == "encoder"
    with pytest.raises(WorkdirError, match="^run has no stage 'memory'; its stages are encoder$"):
        chosen_stage(directory, ("encoder",), "memory")


def test_shapes_cost_no_parameters():
    shapes = parameter_shapes(ENCODER, 64)["params"]
    assert {type(leaf) for leaf in jax.tree.leaves(shapes)} == {jax.ShapeDtypeStruct}
    assert shapes["backbone"]["fc6"]["kernel"].shape == (6 * 6 * 8, 128)
    assert shapes["mlp_out"]["bias"].shape == (1, 4)


@pytest.mark.parametrize(("step", "number"), [("best", 1), ("latest", 2), ("1", 1), ("2", 2)])
def test_each_checkpoint_by_its_name(step, number, run):
    found, encoder, memory = restore(run, "encoder", ENCODER, 64, step)
    assert (found, memory) == (number, None)
    jax.tree.map(np.testing.assert_array_equal, encoder, params(float(number)))


def test_a_memory(run):
    number, encoder, memory = restore(run, "memory", ENCODER, 64, "best")
    assert number == 1
    jax.tree.map(np.testing.assert_array_equal, encoder, params(1.0))
    np.testing.assert_array_equal(memory, np.full((2, 1, 4), -1, np.float32))


def test_what_is_not_there(run, tmp_path):
    with pytest.raises(WorkdirError, match="has no checkpoint '3'; there are 1, 2, best, latest"):
        restore(run, "encoder", ENCODER, 64, "3")
    with pytest.raises(CheckpointError, match="does not exist; train first"):
        restore(tmp_path, "encoder", ENCODER, 64, "best")
    (tmp_path / "checkpoints" / "encoder").mkdir(parents=True)
    with pytest.raises(WorkdirError, match="has no checkpoint of encoder yet"):
        restore(tmp_path, "encoder", ENCODER, 64, "best")
    with pytest.raises(CheckpointError, match="of another model"):
        restore(run, "encoder", ENCODER.clone(feature_dim=5), 64, "best")


def test_a_damaged_checkpoint_is_refused_with_those_that_are_whole(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "checkpoints" / "encoder" / "step_2" / "params" / "_METADATA").unlink()
    with pytest.raises(CheckpointError) as error:
        restore(copy, "encoder", ENCODER, 64, "latest")
    reason = str(error.value).removeprefix(f"cannot read step 2 of {copy / 'checkpoints' / 'encoder'}: ")
    assert "metadata" in reason.splitlines()[0].lower()  # in the words of this version of Orbax
    assert str(error.value).endswith("\nIt is damaged; whole checkpoints of this stage: --step=1")
    assert restore(copy, "encoder", ENCODER, 64, "1").step == 1
    (copy / "checkpoints" / "encoder" / "step_1" / "params" / "_METADATA").unlink()
    with pytest.raises(CheckpointError, match="of another model; restore it from a copy"):
        restore(copy, "encoder", ENCODER, 64, "latest")
