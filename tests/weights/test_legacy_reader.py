"""Files in the format before torch 1.6, written by hand; test_reader.py has those that torch wrote."""

import os
import pickle
import resource

import numpy as np
import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.legacy_reader import MAGIC, PROTOCOL
from gradrev_jax.weights.reader import read_state_dict
from tests.torch_tensors import assert_same


class Storage:
    """Stands in for torch's storages in the pickles written here."""

    def __init__(self, key, size, kind="FloatStorage", view=None):
        self.pid = ("storage", Global("torch", kind), key, "cpu", size, view)


class Global:
    """Is pickled as a global name, which need not exist."""

    def __init__(self, module, name):
        self.line = f"c{module}\n{name}\n".encode()


class Tensor:
    def __init__(self, storage, shape, strides, offset=0):
        self.arguments = (storage, offset, shape, strides, False, {})


class Pickler(pickle._Pickler):
    """Python's own pickler, which can also write global names that do not exist."""

    def persistent_id(self, each):
        return each.pid if isinstance(each, Storage) else None

    def save_global_line(self, each):
        self.write(each.line)

    def save_tensor(self, each):
        self.save(Global("torch._utils", "_rebuild_tensor_v2"))
        self.save(each.arguments)
        self.write(pickle.REDUCE)

    dispatch = pickle._Pickler.dispatch | {Global: save_global_line, Tensor: save_tensor}


def write(path, content, storages, *, keys=None, magic=MAGIC, protocol=PROTOCOL, counts=None, system=None):
    """Writes a file; ``storages`` are arrays by key."""
    with path.open("wb") as file:
        pickle.dump(magic, file, 2)
        pickle.dump(protocol, file, 2)
        pickle.dump({"little_endian": True} if system is None else system, file, 2)
        Pickler(file, 2).dump(content)
        keys = list(storages) if keys is None else keys
        pickle.dump(keys, file, 2)
        for key in keys:
            if isinstance(key, str) and key in storages:
                count = (counts or {}).get(key, storages[key].size)
                file.write(np.array(count, "<i8").tobytes() + storages[key].tobytes())


def vector(key, size, **fields):
    return Tensor(Storage(key, size, **fields), (size,), (1,))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "extractor_best.pkl"


def test_a_file_by_hand(path):
    a, b = np.arange(6, dtype=np.float32), np.array([7, 8])
    tensors = {
        "turned": Tensor(Storage("94", 6), (2, 2), (1, 2), offset=1),
        "whole": vector("94", 6),
        "long": vector("7", 2, kind="LongStorage"),
    }
    write(path, tensors, {"7": b, "94": a})
    found = read_state_dict(path)
    assert_same(found, {"turned": np.array([[1, 3], [2, 4]], np.float32), "whole": a, "long": b})
    assert np.shares_memory(found["turned"], found["whole"])  # as the tensors did
    path.write_bytes(path.read_bytes() + b"more")  # torch.save can be called again on the same file
    assert_same(read_state_dict(path), found)


def test_nothing_of_a_hostile_pickle_is_run(path, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    hostile = {
        "content": {"state_dict": Evil()},
        "protocol": Evil(),
        "keys": [Evil()],
        "magic": [MAGIC, Evil()],
    }
    for part, evil in hostile.items():
        write(path, **{"content": {"bias": vector("0", 2)}, part: evil}, storages={"0": np.ones(2)})
        with pytest.raises(
            WeightsError,
            match=f"^{path} has 'posix.mkdir', which is not a tensor; nothing of the file was run",
        ):
            read_state_dict(path)
    write(path, {"bias": vector("0", 2)}, {"0": np.ones(2, np.float32)}, system=Evil())
    assert read_state_dict(path)["bias"].tolist() == [1, 1]  # what the machine was like is passed over
    assert not (tmp_path / "made").exists()


WITHIN = {"bias": vector("0", 2)}
ONES = {"0": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"keys": ["0", "0"]}, "does not list each of the 1 storages of its tensors exactly once; save"),
        ({"keys": []}, "does not list each of the 1 storages"),
        ({"keys": [0]}, "does not list each of the 1 storages"),
        ({"keys": {"0": 1}}, "does not list each of the 1 storages"),
        ({"storages": {**ONES, "1": np.ones(2)}}, "does not list each of the 1 storages"),
        ({"counts": {"0": 3}}, "has a storage of 3 numbers, where 2 are declared; save"),
        (
            {"counts": {"0": 2**62}},
            "has a storage of 4,611,686,018,427,387,904 numbers, where 2 are declared",
        ),
        (
            {"content": {"bias": Tensor(Storage("0", 2), (3,), (1,))}},
            "has the tensor bias reach to element 2 of a storage of 2; save",
        ),
        (
            {"content": {"a": vector("0", 2), "b": vector("0", 3)}},
            "describes its storage 0 in two ways; save",
        ),
        (
            {"content": {"a": vector("0", 2), "b": vector("0", 2, kind="IntStorage")}},
            "describes its storage 0 in two ways; save",
        ),
        (
            {"content": {"bias": vector("0", 2, view=("1", 0, 2))}},
            "has a storage that is a view of another; s",
        ),
        ({"content": {"epoch": 3}}, "has no tensors by name, only 'epoch'; save"),
        ({"content": 3}, "has no tensors by name; save"),
        ({"protocol": 1000}, "is in protocol 1000 of torch's format from before 1.6, not 1001; save"),
        ({"magic": [MAGIC]}, r"is cut short or damaged \(magic number \[119547037146038801333356\]\)"),
    ],
)
def test_parts_that_disagree(file, message, path):
    write(path, **{"content": WITHIN, "storages": ONES, **file})
    with pytest.raises(WeightsError, match=f"^{path} {message}"):
        read_state_dict(path)
    write(path, WITHIN, ONES)
    assert read_state_dict(path)["bias"].tolist() == [1, 1]


def test_lengths_that_the_file_does_not_have(path):
    """A file of some hundred bytes cannot make the reader allocate gigabytes, or take long."""
    huge = 2**40
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (
        {"bias": Tensor(Storage("0", huge), (huge,), (1,))},
        {"bias": Tensor(Storage("0", huge), (2**20, 2**20), (0, 0))},
    ):
        write(path, content, ONES, counts={"0": huge})
        with pytest.raises(WeightsError, match=f"^{path} is cut short or damaged .*bytes of at least"):
            read_state_dict(path)
    names = ()
    for _ in range(100):
        names = (names, names)  # 2 ** 100 long, as text
    for part in (
        {"protocol": names},
        {"keys": [names]},
        {"content": {"bias": Tensor(Storage("0", 2), (1,), (1,), offset=names)}},
        {"content": {"bias": vector("0", 2, view=names)}},
        {"content": {"bias": vector(names, 2)}},
    ):
        write(path, **{"content": WITHIN, "storages": ONES, **part})
        with pytest.raises(WeightsError):
            read_state_dict(path)
    for bomb in (b"\x80\x02X\xff\xff\xff\xffa.", b"\x80\x02Nr\xff\xff\xff\x0f."):
        path.write_bytes(pickle.dumps(MAGIC, 2) + pickle.dumps(PROTOCOL, 2) + pickle.dumps({}, 2) + bomb)
        with pytest.raises(WeightsError, match=f"^{path} is cut short or damaged"):
            read_state_dict(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
