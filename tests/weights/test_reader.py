"""Files of every format; what only the format before torch 1.6 has is in test_legacy_reader.py."""

import copy
import io
import json
import os
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.reader import read_state_dict
from tests.handmade_pickles import Call, Global, Persistent, dump
from tests.torch_tensors import EXPECTED, LEGACY_FILE, ZIP_FILE, assert_same

SAFETENSORS_FILE = safetensors.numpy.save({"bias": np.ones(3, np.float32), "half": np.ones(3, np.float16)})
FILES = {"zip": ZIP_FILE, "legacy": LEGACY_FILE, "safetensors": SAFETENSORS_FILE}


def entries():
    """The entries of torch's archive, to be changed."""
    with zipfile.ZipFile(io.BytesIO(ZIP_FILE)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights"


@pytest.mark.parametrize("content", [ZIP_FILE, LEGACY_FILE], ids=["zip", "legacy"])
def test_files_that_torch_wrote(path, content):
    path.write_bytes(content)
    assert_same(read_state_dict(str(path)), EXPECTED)


@pytest.mark.parametrize(("protocol", "is_zip"), [(2, True), (4, True), (2, False), (3, False), (4, False)])
def test_files_that_torch_writes_now(path, protocol, is_zip):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0)
    tensors = {
        "window": base.view(4, 6)[1:, ::2].T,
        "shared": base[5:],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "expanded": torch.tensor([1.0]).expand(4),
        "half": torch.randn(3).half(),
        "count": torch.tensor([1, 2]),
    }
    expected = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    for checkpoint in (tensors, {"state_dict": tensors, "optimizer": [torch.ones(5)]}):
        torch.save(checkpoint, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
        assert_same(read_state_dict(path), expected)


def test_safetensors(path):
    tensors = {
        "bias": np.arange(3, dtype=np.float16),
        "count": np.array(3, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "flag": np.array([True, False]),
        "unsigned": np.array([1, 2], np.uint16),
        "weight": np.arange(6.0).reshape(2, 3),
    }
    path.write_bytes(safetensors.numpy.save(tensors))
    assert_same(read_state_dict(path), tensors)


def test_safetensors_of_dtypes_that_numpy_lacks(path):
    def write(dtype, content):
        field = {"bias": {"dtype": dtype, "shape": [2], "data_offsets": [0, len(content)]}}
        header = json.dumps(field).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + content)

    write("BF16", b"\xc0\x3f\x00\xc0")
    assert_same(read_state_dict(path), {"bias": np.array([1.5, -2], jnp.bfloat16)})
    write("F8_E4M3", bytes(2))
    with pytest.raises(WeightsError, match="has tensors of an unsupported dtype: bias: F8_E4M3"):
        read_state_dict(path)
    write("F32", bytes(4))
    with pytest.raises(WeightsError, match="is cut short or damaged"):
        read_state_dict(path)


def test_archives_of_other_versions_and_machines(path):
    """The folder has any name; before torch 2.1 the byte order was not written; it may be the other one."""
    older = {name: data for name, data in entries().items() if name.endswith("data.pkl") or "/data/" in name}
    sizes = [4, 4, 4, 4, 2, 2, 8]
    swapped = {
        f"archive/data/{key}": np.frombuffer(older[f"archive/data/{key}"], f"u{size}").byteswap().tobytes()
        for key, size in enumerate(sizes)
    }
    renamed = {name.replace("archive/", "alexnet-owt/"): data for name, data in entries().items()}
    for content in (older, {**older, **swapped, "archive/byteorder": b"big"}, renamed):
        write_zip(path, content)
        assert_same(read_state_dict(path), EXPECTED)


def test_a_hostile_pickle_in_an_archive_is_not_run(path, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'made'}",)

    write_zip(path, {**entries(), "archive/data.pkl": pickle.dumps({"state_dict": Evil()})})
    with pytest.raises(
        WeightsError,
        match=f"^{path} has 'posix.system', which is not a tensor; nothing of the file was run; save",
    ):
        read_state_dict(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_short_anywhere(path, kind):
    whole = FILES[kind]
    for length in [*range(18, 80), *range(80, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[: min(length, len(whole) - 1)])
        with pytest.raises(WeightsError, match=f"^{path} is cut short or damaged .*; fetch it again"):
            read_state_dict(path)


@pytest.mark.parametrize(
    ("kind", "least"), [("zip", 15), ("legacy", 30), ("safetensors", 15), ("pickle", 30)]
)
def test_damage_anywhere_is_one_kind_of_error(path, rng, kind, least):
    """In "pickle", that of an archive whose checksums are right."""
    whole = entries()["archive/data.pkl"] if kind == "pickle" else FILES[kind]
    first = 14 if kind == "legacy" else 0  # the magic number, without which it is another format
    refused = 0
    for _ in range(100):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(first, len(damaged), rng.integers(1, 4))
        damaged[places] = rng.integers(0, 256, len(places))
        if kind == "pickle":
            write_zip(path, {**entries(), "archive/data.pkl": damaged.tobytes()})
        else:
            path.write_bytes(damaged.tobytes())
        try:
            read_state_dict(path)
        except WeightsError:
            refused += 1
    assert refused > least


def test_damaged_numbers_are_found(path):
    place = ZIP_FILE.index(np.array([5, 6], np.float32).tobytes())
    path.write_bytes(ZIP_FILE[:place] + b"\1" + ZIP_FILE[place + 1 :])
    with pytest.raises(WeightsError, match="is cut short or damaged .*CRC"):
        read_state_dict(path)


def test_a_compressed_archive(path):
    write_zip(path, {**entries(), "archive/data/0": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="is a compressed archive, which torch.save does not write; save"):
        read_state_dict(path)


def test_two_entries_of_one_name(path):
    write_zip(path, entries())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", entries()["archive/data/0"])
    with pytest.raises(
        WeightsError, match=r"has two entries of one name, which torch.save does not write; s"
    ):
        read_state_dict(path)


def test_big_endian_tensors_of_one_storage_share_its_memory(path):
    """A copy per tensor would take any amount of memory, of a small file."""
    window = Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        (Persistent(("storage", Global("torch", "FloatStorage"), "0", "cpu", 3)), 0, (3,), (1,), False, None),
    )
    pickled = dump({"a": window, "b": window})
    content = {"x/data.pkl": pickled, "x/data/0": np.arange(3, dtype=">f4").tobytes(), "x/byteorder": b"big"}
    write_zip(path, content)
    found = read_state_dict(path)
    assert_same(found, dict.fromkeys("ab", np.arange(3, dtype=np.float32)))
    assert np.shares_memory(found["a"], found["b"])


def test_entries_that_are_the_same_bytes(path):
    """Many entries that share their content would be read many times over."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries().items():
            archive.writestr(name, content)
        for number in range(100):
            again = copy.copy(archive.getinfo("archive/data.pkl"))
            again.filename = f"archive/data/again{number}"
            archive.filelist.append(again)
    with pytest.raises(WeightsError, match="declares [0-9,]+ bytes and has [0-9,]+; fetch it again"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("zip", "has a pickle of 740 bytes, too long for names and shapes"),
        ("legacy", "has pickles of more than 500 bytes, too long for names and shapes"),
    ],
)
def test_a_pickle_that_is_too_long_for_tensors(path, monkeypatch, kind, message):
    for module in ("reader", "legacy_reader"):
        monkeypatch.setattr(f"gradrev_jax.weights.{module}.LARGEST_PICKLE", 500)
    path.write_bytes(FILES[kind])
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)


NOT_OF_TORCH = "is a zip archive, but not one of torch.save, which has one NAME/data.pkl"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"archive/data/1": None}, "has no entry archive/data/1, which its tensors need; save"),
        ({"archive/data/1": bytes(7)}, "has 7 bytes for bias, which is declared as 2 numbers of float32; s"),
        ({"archive/data.pkl": None}, NOT_OF_TORCH),
        ({"other/data.pkl": b""}, NOT_OF_TORCH),
        ({"archive/data.pkl": pickle.dumps(3)}, "has no tensors by name; save"),
        ({"archive/data.pkl": b""}, r"is cut short or damaged \(pickle exhausted before seeing STOP\)"),
    ],
)
def test_archives_that_are_not_whole(path, change, message):
    write_zip(path, {name: data for name, data in {**entries(), **change}.items() if data is not None})
    with pytest.raises(WeightsError, match=f"^{path} {message}"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is neither a file of torch.save nor a .safetensors file: it begins"),
        (b"<!DOCTYPE html>\n", "is neither .*: it begins with b'<!DOCTYPE html>"),
        (b'notes: {"a"}', "is neither"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"PK\x03\x04", "is cut short or damaged"),
        (pickle.dumps({"weight": [1.0]}), "is a plain pickle, which torch.save does not write; save"),
        (pickle.dumps({"weight": [1.0]}, 2), "is a plain pickle, which torch.save does not write; save"),
    ],
)
def test_other_formats(path, content, message):
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"^{path} {message}"):
        read_state_dict(path)


def test_no_file(path, tmp_path):
    for name, message in (
        (path, "does not exist$"),
        (tmp_path, "is not a file; give a file of weights"),
        ("/dev/zero", "is not a file"),
    ):
        with pytest.raises(WeightsError, match=f"^{name} {message}"):
            read_state_dict(name)


def test_a_file_that_may_not_be_read(path, monkeypatch):
    path.write_bytes(ZIP_FILE)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zipfile.ZipFile.read", refuse)
    with pytest.raises(WeightsError, match=f"^{path} cannot be read: Permission denied"):
        read_state_dict(path)
