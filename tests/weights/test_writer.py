import os
import pickletools
import resource
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.tensor_pickle import STORAGES
from gradrev_jax.weights.writer import WRITERS, write_state_dict

SUFFIXES = tuple(WRITERS)


@pytest.fixture
def tensors(rng):
    """Tensors of every dtype and of shapes that are easy to get wrong, some not in row-major order."""
    made = {
        f"kind.{dtype}": (50 * rng.normal(size=(2, 3))).astype(dtype)
        for dtype in STORAGES.values()
        if dtype != jnp.bfloat16
    }
    made["turned"] = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    made["window"] = np.arange(24, dtype=np.float32)[3::5]
    made["special"] = np.array([-0.0, np.inf, 1e-45], np.float32)
    made["scalar"] = np.array(2.5, np.float32)
    made["none"] = np.zeros((0, 3), np.float32)
    made["größe"] = np.ones(1, np.float32)
    return made


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert np.ascontiguousarray(found[name]).tobytes() == np.ascontiguousarray(array).tobytes(), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_to_the_bit(suffix, tensors, tmp_path):
    path = tmp_path / f"weights{suffix}"
    write_state_dict(path, tensors)
    assert_same(read_state_dict(path), tensors)
    assert os.listdir(tmp_path) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    first = path.read_bytes()
    write_state_dict(str(path), tensors)
    assert path.read_bytes() == first
    if suffix == ".safetensors":
        assert_same(load_file(path), tensors)


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bfloat16(suffix, tmp_path):
    tensors = {"brain": np.array([1.5, -2], jnp.bfloat16)}
    write_state_dict(tmp_path / f"weights{suffix}", tensors)
    assert_same(read_state_dict(tmp_path / f"weights{suffix}"), tensors)


def test_torch_reads_it_to_the_bit(tensors, tmp_path):
    torch = pytest.importorskip("torch")
    load_safetensors = pytest.importorskip("safetensors.torch").load_file
    write_state_dict(tmp_path / "weights.pth", tensors)
    write_state_dict(tmp_path / "weights.safetensors", tensors)
    found = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert list(found) == list(tensors)
    assert all(tensor.is_contiguous() for tensor in found.values())
    for loaded in (
        found,
        torch.load(tmp_path / "weights.pth", weights_only=False),
        torch.load(tmp_path / "weights.pth", weights_only=True, mmap=True),
        load_safetensors(tmp_path / "weights.safetensors"),
    ):
        assert_same({name: tensor.numpy() for name, tensor in loaded.items()}, tensors)
    module = torch.nn.Linear(3, 2)
    weights = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(2, np.float32)}
    write_state_dict(tmp_path / "weights.pth", weights)
    module.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    assert module.weight.tolist() == weights["weight"].tolist()


def test_the_archive_is_that_of_torch(tmp_path):
    write_state_dict(tmp_path / "weights.pth", {"fc.bias": np.arange(3, dtype="<i2"), "b": np.ones(1)})
    with zipfile.ZipFile(tmp_path / "weights.pth") as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # the same bytes
        entries = {name.removeprefix("archive/"): archive.read(name) for name in archive.namelist()}
    pickled = entries.pop("data.pkl")
    assert entries == {
        "byteorder": b"little",
        "version": b"3\n",
        "data/0": bytes([0, 0, 1, 0, 2, 0]),
        "data/1": np.ones(1).tobytes(),
    }
    names = [argument for opcode, argument, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"]
    rebuilt = ["torch._utils _rebuild_tensor_v2", "torch ShortStorage", "collections OrderedDict"]
    assert names == [*rebuilt, rebuilt[0], "torch DoubleStorage", rebuilt[2]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.pkl", r"weights.pkl ends in '.pkl'; give .pth or .safetensors$"),
        ("weights", r"weights ends in 'no suffix'; give .pth or .safetensors$"),
    ],
)
def test_other_suffixes(name, message, tmp_path):
    with pytest.raises(WeightsError, match=f"^{tmp_path}/{message}"):
        write_state_dict(tmp_path / name, {"bias": np.ones(2)})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["u2", "c8", "U3", "O"])
def test_dtypes_that_torch_has_not(suffix, dtype, tmp_path):
    with pytest.raises(WeightsError, match="torch has no tensors of bias: "):
        write_state_dict(tmp_path / f"weights{suffix}", {"bias": np.ones(2, dtype)})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_where_nothing_can_be_written(suffix, tmp_path):
    path = tmp_path / "none" / f"weights{suffix}"
    with pytest.raises(WeightsError, match=f"^{path} cannot be written: No such file or directory$"):
        write_state_dict(path, {"bias": np.ones(2)})
    taken = tmp_path / f"taken{suffix}"
    taken.mkdir()
    with pytest.raises(WeightsError, match=f"^{taken} cannot be written: Is a directory$"):
        write_state_dict(taken, {"bias": np.ones(2)})
    assert os.listdir(tmp_path) == [taken.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_what_was_there(suffix, tmp_path):
    """RLIMIT_FSIZE makes large writes fail as a full disk does."""
    path = tmp_path / f"weights{suffix}"
    write_state_dict(path, {"bias": np.ones(2)})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(WeightsError, match=f"^{path} cannot be written: File too large$"):
            write_state_dict(path, {"bias": np.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before
