import base64
import os
import pickle
import resource
import zlib

import numpy as np
import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.legacy_reader import MAGIC, PROTOCOL, is_legacy
from gradrev_jax.weights.reader import read_state_dict
from tests.torch_tensors import EXPECTED, assert_same

# What torch 2.14 wrote in the format from before 1.6, compressed: the state dict of a Linear(2, 2), a
# Parameter, a strided window of a larger tensor, a half, a bfloat16 and an integer; an epoch; and a tensor
# that is none of the state dict, as an optimiser has.
WRITTEN_BY_TORCH = zlib.decompress(
    base64.b85decode(
        "c-nPSSyR+N5Y7b)5fE?j#C!2r_a=C;AR-#hpjCOXQrYZCVr7%<WCEpCTeUAB`Wt-k(VxLj@ztMTl@E4~T?Im_dM4A;{e9ij-5u_"
        "$X#e>(|9kwykJYhUhg<r^<Jtx$tBx`Z)AC&E8m_Hv63@3>2Us*vhw;X?D7A@3oQ9=4!0oCcD(S}-(R}L@@qurHkX8Fo>6@-cp-<"
        "*i9#57-p<fnMA;fT<4amqs5Og_1d(v_Z6IhvzAbqM+qBSgo0%u?(HZdp$;)^R@gLtGdhc_bd6G}+ej}BYJ+AxvNpsr__IW3@;?T"
        "ea6>Vai9G)f%b^|Z~R2>sctnu#b}Pv0PriCx5b+tulMtQ28D9YLF^a&fXynyg4D#XJl~xfrbgL|Is-aBNLxWKQOGU<fyM2Zq0xV"
        "N4?wjw>)4Wm~s&A5NIaYG%wssMTs2PMV_3A=;@3Z5vL@>^7W<k<L;$r@(o2FszF1=}kh32V+NM*|QMg!ePc@H9u9VRHQOoOc*aE"
        "jF&^kD>36$3gZe~+l>y_Kf?_LZpJTcISqFUZlwcDQXW&ejle?)d}mD-;)luNChWjO41SlwJq7MZ4`b@~dw39|B_&uuRj&fMeFTL"
        "{zEqXqAri1ikPjorpbOzrjKND3$_iAXZmN5_<v?{G`fOC;Lbb;*d4Qo1)>ujyrV@rn;qo|UctYW+0?#4_!ws;fr}r@|VrTczYX{"
        ">m7RxY`pwA-uMDi%lDa<MGB51>WRA&uKs5f+~!^`M?K}974uiEfBYTWKn$};Qwem(MWThwae1bVR8h9z|XRZX`^92zuXIkjS#Y+"
        "1^~3I@buK&xT8{5GtG=_+wx>lEH7@YWCK^j$coDG9M@RpQbfmQSM>(%Q2xt+o2o1~QX2PXi>!GV#YJd-u#p-M_u*?j6H)rn|!Rb"
        "U$mj%nULAf1wS7`Wi|H<vYq=t!v9LqbTDj`5EB|pMUtV?_Z(NSw{"
    )
)


class Storage:
    """Stands for torch's storages in the pickles written here."""

    def __init__(self, key, size, kind="FloatStorage", view=None):
        self.pid = ("storage", Global("torch", kind), key, "cpu", size, view)


class Global:
    """Is pickled as the name of something, whether or not it is there."""

    def __init__(self, module, name):
        self.line = f"c{module}\n{name}\n".encode()


class Tensor:
    def __init__(self, storage, shape, strides, offset=0):
        self.arguments = (storage, offset, shape, strides, False, {})


class Pickler(pickle._Pickler):
    """Python's own, which can be told to write names of things that are not there."""

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
    """A file by hand: storages are key -> array."""
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


def test_what_torch_wrote(path):
    path.write_bytes(WRITTEN_BY_TORCH)
    assert is_legacy(WRITTEN_BY_TORCH[:32])
    assert_same(read_state_dict(path), EXPECTED)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_torch_writes_now(protocol, path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0)
    tensors = {
        "window": base.view(4, 6)[1:, ::2].T,
        "shared": base[5:],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(3).half(),
        "count": torch.tensor([1, 2]),
    }
    expected = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    for checkpoint in (tensors, {"state_dict": tensors, "optimizer": [torch.ones(5)]}):
        torch.save(checkpoint, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
        assert_same(read_state_dict(path), expected)


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
            match=f"^{path} holds 'posix.mkdir', which is no tensor; nothing of the file was run",
        ):
            read_state_dict(path)
    write(path, {"bias": vector("0", 2)}, {"0": np.ones(2, np.float32)}, system=Evil())
    assert read_state_dict(path)["bias"].tolist() == [1, 1]  # what the machine was like is passed over
    assert not (tmp_path / "made").exists()


def test_a_file_cut_short_anywhere(path):
    for length in [*range(18, 200), *range(200, len(WRITTEN_BY_TORCH), 7), len(WRITTEN_BY_TORCH) - 1]:
        path.write_bytes(WRITTEN_BY_TORCH[:length])
        with pytest.raises(WeightsError, match=f"^{path} is cut short or damaged .*; fetch it again"):
            read_state_dict(path)


def test_damage_anywhere_is_one_kind_of_error(path, rng):
    refused = 0
    for _ in range(300):
        damaged = np.frombuffer(WRITTEN_BY_TORCH, np.uint8).copy()
        places = rng.integers(14, len(damaged), rng.integers(1, 4))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        try:
            read_state_dict(path)
        except WeightsError:
            refused += 1
    assert refused > 100


WITHIN = {"bias": vector("0", 2)}
ONES = {"0": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"keys": ["0", "0"]}, "does not list each of the 1 storages once that its tensors refer to; save"),
        ({"keys": []}, "does not list each of the 1 storages once"),
        ({"keys": ["1"]}, "does not list each of the 1 storages once"),
        ({"keys": [0]}, "does not list each of the 1 storages once"),
        ({"keys": {"0": 1}}, "does not list each of the 1 storages once"),
        ({"storages": {**ONES, "1": np.ones(2)}}, "does not list each of the 1 storages once"),
        ({"counts": {"0": 3}}, "has a storage of 3 numbers, where 2 are declared; save"),
        ({"counts": {"0": -1}}, "has a storage of -1 numbers, where 2 are declared"),
        (
            {"counts": {"0": 2**62}},
            "has a storage of 4,611,686,018,427,387,904 numbers, where 2 are declared",
        ),
        (
            {"content": {"bias": Tensor(Storage("0", 2), (3,), (1,))}},
            "has bias reach to element 2 of a storage of 2; save",
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
        ({"content": {"epoch": 3}}, "holds no tensors by name, but 'epoch'; save"),
        ({"content": 3}, "holds no tensors by name; save"),
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
    """A file of some hundred bytes cannot make us take gigabytes, or read for long."""
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


def test_pickles_too_long_to_be_those_of_tensors(path, monkeypatch):
    monkeypatch.setattr("gradrev_jax.weights.legacy_reader.LARGEST_PICKLE", 500)
    path.write_bytes(WRITTEN_BY_TORCH)
    with pytest.raises(
        WeightsError, match="has pickles of more than 500 bytes, too long for names and shapes"
    ):
        read_state_dict(path)
