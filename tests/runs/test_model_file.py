import contextlib
import json
import pathlib
import struct

import numpy as np
import pytest
import safetensors.numpy

from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs.model_file import (
    KEY,
    LARGEST_HEADER,
    MODEL_FILE,
    Checkpoint,
    holds_model,
    read_checkpoint,
    read_tree,
    write_model,
)

TREE = {"params": {"mlp": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.ones(3)}}}
MEMORY = np.arange(8.0).reshape(2, 2, 2)


@pytest.fixture
def model(tmp_path):
    trees = {"encoder": TREE, "memory": MEMORY}
    arrays = {"space/memory": np.ones(2, np.float64)}
    write_model(tmp_path / MODEL_FILE, Checkpoint("memory", 7), trees, arrays, {"space": "{}"})
    return tmp_path


def shapes(tree):
    if isinstance(tree, dict):
        return {name: shapes(each) for name, each in tree.items()}
    return np.zeros(tree.shape, np.float32)


def read_all(folder):
    return (
        read_checkpoint(folder),
        read_tree(folder, "encoder", shapes(TREE)),
        read_tree(folder, "memory", shapes(MEMORY)),
    )


def write(folder, tensors, metadata=None):
    (folder / MODEL_FILE).write_bytes(safetensors.numpy.save(tensors, metadata=metadata))


def test_what_is_written_is_read(model):
    checkpoint, tree, memory = read_all(model)
    assert checkpoint == ("memory", 7)
    np.testing.assert_array_equal(tree["params"]["mlp"]["kernel"], TREE["params"]["mlp"]["kernel"])
    np.testing.assert_array_equal(tree["params"]["mlp"]["bias"], 1)
    np.testing.assert_array_equal(memory, MEMORY)
    assert holds_model(model)
    assert not holds_model(model / "elsewhere")


def test_a_file_cut_short_anywhere_is_refused(model):
    content = (model / MODEL_FILE).read_bytes()
    for length in range(len(content)):
        (model / MODEL_FILE).write_bytes(content[:length])
        with pytest.raises(WorkdirError, match=MODEL_FILE):
            read_all(model)


def test_a_file_with_any_byte_changed_is_refused_or_holds_numbers(model, rng):
    content = (model / MODEL_FILE).read_bytes()
    refused = 0
    for _ in range(400):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        (model / MODEL_FILE).write_bytes(changed)
        with contextlib.suppress(WorkdirError):
            refused += 1
            _, tree, memory = read_all(model)
            refused -= 1
            assert np.isfinite(tree["params"]["mlp"]["kernel"]).all()
            assert np.isfinite(memory).all()
    assert refused > 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is cut short, or no .safetensors file"),
        (b"x" * 500, "is cut short, or no .safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer"),
        (struct.pack("<Q", 2**60) + b"{" + b" " * 500, "is cut short"),
        (struct.pack("<Q", 400) + b"{" * 500, "is cut short or damaged"),
        (
            struct.pack("<Q", LARGEST_HEADER + 1) + b"{" + b" " * (LARGEST_HEADER + 1),
            "has a header of 16,777,217",
        ),
        (b"\x80\x04\x95" + b"\0" * 500, "is cut short, or no .safetensors file"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, content, message):
    (tmp_path / MODEL_FILE).write_bytes(content)
    with pytest.raises(WorkdirError, match=message):
        read_checkpoint(tmp_path)


def test_a_header_that_promises_more_than_the_file_holds_allocates_nothing(tmp_path):
    header = json.dumps({"memory": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / MODEL_FILE).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    with pytest.raises(WorkdirError, match="is cut short or damaged"):
        read_tree(tmp_path, "memory", shapes(MEMORY))


@pytest.mark.parametrize(
    "about",
    [
        None,
        "",
        "[]",
        "{",
        "[" * 100_000,
        json.dumps({"format": "model 2", "stage": "memory", "step": 7}),
        json.dumps({"format": "model 1", "stage": "../memory", "step": 7}),
        json.dumps({"format": "model 1", "stage": ["memory"], "step": 7}),
        json.dumps({"format": "model 1", "stage": "memory", "step": -1}),
        json.dumps({"format": "model 1", "stage": "memory", "step": True}),
        json.dumps({"format": "model 1", "stage": "memory"}),
    ],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(tmp_path, about):
    write(tmp_path, {"memory": np.ones(2, np.float32)}, None if about is None else {KEY: about})
    with pytest.raises(WorkdirError, match="export it again, or fetch it again"):
        read_checkpoint(tmp_path)


KERNEL, BIAS = "encoder/params/mlp/kernel", "encoder/params/mlp/bias"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({KERNEL: None}, f"1 missing, as {KERNEL}"),
        ({"encoder/params/mlp/other": np.ones(1, np.float32)}, "1 unknown, as encoder/params/mlp/other"),
        ({"evil": np.ones(1, np.float32)}, "1 unknown, as evil"),
        (
            {KERNEL: np.ones((3, 2), np.float32)},
            r"kernel is \(3, 2\) F32; the config and the attributes need",
        ),
        ({KERNEL: np.ones((2, 3), np.float64)}, r"kernel is \(2, 3\) F64"),
        ({KERNEL: np.ones((2, 3), np.int32)}, r"kernel is \(2, 3\) I32"),
        ({BIAS: np.array([1, np.nan, 1], np.float32)}, f"not finite in {BIAS}"),
        ({BIAS: np.array([1, np.inf, 1], np.float32)}, f"not finite in {BIAS}"),
    ],
)
def test_other_tensors_than_those_of_the_model_are_refused(model, changes, message):
    with safetensors.safe_open(model / MODEL_FILE, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors = {name: each for name, each in {**tensors, **changes}.items() if each is not None}
    write(model, tensors)
    with pytest.raises(WorkdirError, match=message) as caught:
        read_tree(model, "encoder", shapes(TREE))
    assert str(caught.value).startswith(str(model / MODEL_FILE))


def test_a_missing_memory_is_said(tmp_path):
    write_model(tmp_path / MODEL_FILE, Checkpoint("encoder", 0), {"encoder": TREE}, {}, {})
    with pytest.raises(WorkdirError, match="1 missing, as memory"):
        read_tree(tmp_path, "memory", shapes(MEMORY))


def test_only_a_file_is_a_model(tmp_path):
    pathlib.Path(tmp_path / MODEL_FILE).mkdir()
    assert not holds_model(tmp_path)


def test_a_model_that_may_not_be_read_is_not_called_damaged(model, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(WorkdirError, match=f"{MODEL_FILE} cannot be read: Permission denied$"):
        read_all(model)
