import contextlib
import os
import pickle
import resource
import struct
import time

import numpy as np
import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.files import LFS_ADVICE
from gradrev_jax.weights import instructions
from gradrev_jax.weights.numpy_pickle import KINDS, read_numpy_pickle
from tests.handmade_pickles import Built, Call, Global, dump, emit
from tests.torch_tensors import LEGACY_FILE, ZIP_FILE

RECONSTRUCT, NDARRAY = Global("numpy.core.multiarray", "_reconstruct"), Global("numpy", "ndarray")
FROM_BUFFER, DTYPE = Global("numpy._core.numeric", "_frombuffer"), Global("numpy", "dtype")


def dtype(kind="f4", order="<", arguments=(False, True), rest=(None, None, None, -1, -1, 0)):
    return Built(Call(DTYPE, (kind, *arguments)), (3, order, *rest))


def array(shape=(2, 3), kind="f4", fortran=False, content=bytes(24), version=1, **fields):
    made = Call(RECONSTRUCT, (NDARRAY, (0,), b"b"))
    return Built(made, (version, shape, dtype(kind, **fields), fortran, content))


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "weights.ckpt"
        path.write_bytes(content)
        return read_numpy_pickle(path)

    return read


def assert_same_trees(found, expected):
    assert list(found) == list(expected)
    for name, part in expected.items():
        if isinstance(part, dict):
            assert_same_trees(found[name], part)
        else:
            assert found[name].dtype == part.dtype
            np.testing.assert_array_equal(found[name], part, strict=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_arrays_that_numpy_pickles(protocol, kind, read, rng):
    numbers = rng.integers(0, 120, (3, 4, 2)).astype(kind)
    swapped = numbers.astype(numbers.dtype.newbyteorder(">"))
    shared = numbers[0].copy()
    tree = {
        "plain": numbers,
        "inner": {
            "columns first": np.asfortranarray(numbers),
            "other bytes first": swapped,
            "both": np.asfortranarray(swapped),
            "window": numbers[1:, ::2],
            "one": numbers[:1, :1],
            "naïve": shared,
        },
        "scalar": np.array(7, kind),
        "empty": np.zeros((0, 3), kind),
        "nothing": {},
        "shared": shared,
        "a long vector": np.arange(300).astype(kind),
    }
    found = read(pickle.dumps(tree, protocol))
    assert_same_trees(found, tree)
    assert found["shared"] is found["inner"]["naïve"]
    assert not found["plain"].flags.writeable


def test_names_of_earlier_releases_of_numpy(read):
    content = np.arange(6, dtype="<f4").tobytes()
    expected = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    for core in ("core", "_core"):
        made = Call(Global(f"numpy.{core}.multiarray", "_reconstruct"), (NDARRAY, (0,), b"b"))
        built = Built(made, (1, (2, 3), dtype(), False, content))
        assert_same_trees(read(dump({"weight": built})), expected)
        called = Call(Global(f"numpy.{core}.numeric", "_frombuffer"), (content, dtype(), (2, 3), "C"))
        assert_same_trees(read(dump({"weight": called})), expected)
    assert_same_trees(read(dump({"weight": array(content=content)})), expected)


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_hostile_pickle_is_named_and_not_run(protocol, read, tmp_path):
    hostile = pickle.dumps({"fc": {"bias": Evil(os.mkdir, str(tmp_path / "made"))}}, protocol)
    with pytest.raises(
        WeightsError,
        match=r"weights.ckpt has 'posix.mkdir', which is not an array; nothing of the file was run; save",
    ) as raised:
        read(hostile)
    assert raised.value.arguments == ("path",)
    assert not (tmp_path / "made").exists()
    pickle.loads(hostile)
    assert (tmp_path / "made").exists(), "the test's pickle does nothing"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("numpy", "load"),
        ("numpy", "dtype.__class__"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy._core.multiarray", "fromfile"),
        ("numpy.ndarray", "tofile"),
        ("_codecs", "lookup"),
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
    ],
)
def test_every_other_global_is_refused_by_name(module, name, read):
    modern = b"\x80\x04" + emit(module) + emit(name) + b"\x93."  # STACK_GLOBAL
    instance = b"\x80\x02(i" + f"{module}\n{name}\n.".encode()  # INST
    for pickled in (dump(Global(module, name)), modern, instance):
        with pytest.raises(WeightsError, match=f"has '{module}.{name}', which is not an array"):
            read(pickled)


@pytest.mark.parametrize(
    "value",
    [
        np.array([None, 1], object),
        np.zeros(2, [("a", "f4"), ("b", "i4")]),
        np.zeros((2, 2), "M8[s]"),
        np.array(["red"]),
        np.array([b"red"]),
        np.zeros(2, bool),
        np.zeros(2, complex),
        np.zeros(2, np.longdouble),
        np.zeros(2, "V4"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_other_than_plain_numbers(protocol, value, read):
    with pytest.raises(WeightsError, match="weights.ckpt (has|is cut short)"):
        read(pickle.dumps({"fc": value}, protocol))


def test_the_dtype_that_is_refused_is_named(read):
    with pytest.raises(WeightsError, match="has 'fc/bias' of the dtype 'O8', not one of plain numbers; save"):
        read(dump({"fc": {"bias": array(kind="O8")}}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "has a int as 'fc', which is no array; save"),
        (None, "has a NoneType as 'fc', which"),
        ((1, 2), "has a tuple as 'fc', which"),
        ("red", "has a str as 'fc', which"),
        (dtype(), "has a dtype as 'fc', which"),
        (NDARRAY, "has a _Global as 'fc', which"),
        (Call(RECONSTRUCT, (NDARRAY, (0,), b"b")), "has a _reconstruct as 'fc', which"),
        (Call(RECONSTRUCT, ()), "has a _reconstruct as 'fc', which"),
        (Built(Call(RECONSTRUCT, (DTYPE, (0,), b"b")), array().state), "has a _reconstruct as"),
        (Built(Call(NDARRAY, (NDARRAY, (0,), b"b")), array().state), "has a ndarray as"),
        (Call(FROM_BUFFER, (bytes(24), dtype(), (2, 3), "A")), "has a _frombuffer as 'fc', which"),
        (Call(FROM_BUFFER, (bytes(24), dtype(), (2, 3))), "has a _frombuffer as 'fc', which"),
        (array(version=2), "has a _reconstruct as"),
        (array(fortran=0), "has a _reconstruct as"),
        (
            array(shape=(2, 4)),
            r"has 24 bytes for 'fc', which is declared as \(2, 4\) numbers of float32; save",
        ),
        (array(shape=(1, 5)), r"has 24 bytes for 'fc', which is declared as \(1, 5\) numbers of float32"),
        (array(shape=(2**62, 2**62)), "has 24 bytes for 'fc', which is declared as"),
        (array(shape=()), r"has 24 bytes for 'fc', which is declared as \(\)"),
        (array(kind="f8"), r"declared as \(2, 3\) numbers of float64"),
        (array(shape=(-2, -3)), r"damaged \(the shape of 'fc' is \(-2, -3\)\); fetch"),
        (array(shape=(2, 3, -1)), "the shape of 'fc' is"),
        (array(shape=(True, 6)), "the shape of 'fc' is"),
        (array(shape=(None, 3)), "the shape of 'fc' is"),
        (array(shape=6), "the shape of 'fc' is 6"),
        (array(shape=(1,) * 40 + (6,)), "the shape of 'fc' is"),
        (array(shape=(2**63, 0), content=b""), "the shape of 'fc' is"),
        (array(shape=(2**62, 0), content=b""), "cut short or damaged"),
        (array(content="text" * 6), "the bytes of an array are a str"),
        (array(content=6), "the bytes of an array are a int"),
        (array(content=Call(Global("_codecs", "encode"), ("a" * 24, "utf-16"))), "array are a encode"),
        (array(content=Call(Global("_codecs", "encode"), ("€" * 24, "latin1"))), "codec can't encode"),
        (array(content=Call(Global("__builtin__", "bytes"), (2**40,))), "array are a bytes"),
        (array(kind=("f4",)), "the dtype of 'fc' is a dtype"),
        (array(kind="f4,f4"), "'f4,f4', not one of plain numbers"),
        (array(kind=">f4"), "'>f4', not one of plain numbers"),
        (array(order="="), "'f4', not one"),
        (array(order="|"), "'f4', not one"),
        (array(kind="i1", order="<"), "'i1', not one"),
        (array(rest=(None, ("a",), {"a": 1}, -1, -1, 0)), "'f4', not one"),
        (array(rest=((2,), None, None, -1, -1, 0)), "'f4', not one"),
        (array(rest=(None, None, None, -1, -1, 63)), "'f4', not one"),
        (array(arguments=(True, True)), "'f4', not one"),
        (Built(array(), array().state), "sets the state of what has none"),
        (Built(Call(RECONSTRUCT, ()), {"state": 1}), "sets the state of what has none"),
        (Built(NDARRAY, (1,)), "sets the state of what has none"),
        (Built({}, (1,)), "sets the state of what has none"),
        (Call(Call(NDARRAY, ()), ()), "calls what is no function"),
        (Call("numpy.ndarray", ()), "calls what is no function"),
        (Call(NDARRAY, {}), "calls what is no function"),
        ([1], "has the instruction LIST, which no dict of arrays needs; save"),
        (0.5, "has the instruction BINFLOAT, which"),
    ],
)
def test_what_numpy_does_not_write(value, message, read):
    with pytest.raises(WeightsError, match=message):
        read(dump({"fc": value}))
    assert read(dump({"fc": array()}))["fc"].shape == (2, 3), "it has changed the reader"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dump(array()), "has no dict of arrays but a _reconstruct; save"),
        (dump(3), "has no dict of arrays but a int"),
        (dump({3: array()}), "has the key 3, which is no string"),
        (dump({(): array()}), r"has the key \(\), which is no string"),
        (b"", "is empty"),
        (b"\x80", "is no pickle of protocols 2 to 5: it begins with"),
        (b"\x80\x06}.", "is no pickle of protocols 2 to 5"),
        (pickle.dumps({}, 0), "is no pickle of protocols 2 to 5"),
        (ZIP_FILE, "is no pickle of protocols 2 to 5"),
        (LEGACY_FILE, "is no pickle of protocols 2 to 5"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", LFS_ADVICE),
        (b"\x80\x02.", "cut short or damaged"),
        (b"\x80\x02}}.", "cut short or damaged"),
        (b"\x80\x02s.", "it takes more from its stack than there is"),
        (b"\x80\x02}u.", "it takes more from its stack than there is"),
        (b"\x80\x02Nb.", "cut short or damaged"),
        (b"\x80\x02h\x05.", "cut short or damaged"),
        (b"\x80\x02q\x05.", "cut short or damaged"),
        (b"\x80\x02}(NNu.", "has the key None"),
        (b"\x80\x02}(X\x01\0\0\0au.", "cut short or damaged"),
        (b"\x80\x02N" + emit("a") + b"Ns.", "sets an item of what is no dict"),
        (b"\x80\x02(X\x01\0\0\0aNN\x93.", "the name of a global is no string"),
    ],
)
def test_files_of_another_kind(content, message, read):
    with pytest.raises(WeightsError, match=message):
        read(content)


def test_every_shortened_file_is_refused(read):
    for protocol in (2, 3, 5):
        whole = pickle.dumps({"fc": {"kernel": np.ones((2, 3), np.float32)}}, protocol)
        for length in range(0, len(whole), 3):
            with pytest.raises(WeightsError):
                read(whole[:length])


def test_a_file_with_any_byte_changed_is_read_or_refused(read, rng):
    whole = pickle.dumps({"fc": {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, ">f2")}}, 4)
    for place in range(0, len(whole), 2):
        changed = bytearray(whole)
        changed[place] = rng.integers(256)
        with contextlib.suppress(WeightsError):
            read(bytes(changed))


def test_dicts_without_an_end(read):
    itself = {}
    itself["again"] = itself
    twice = {"a": {}}
    twice["b"] = twice["a"]
    deep = {}
    for _ in range(200):
        deep = {"deeper": deep}
    for tree in (itself, twice, deep):
        with pytest.raises(WeightsError, match="has a dict in two places, or too many within one another"):
            read(pickle.dumps(tree))


DEEP = b")" + b"\x85" * 40_000  # a tuple in a tuple in a tuple
WIDE = b")" + b"q\x00h\x00\x86" * 200  # a tuple that holds twice a tuple that holds twice ...


@pytest.mark.long
@pytest.mark.parametrize("nested", [DEEP, WIDE])
def test_nested_objects_are_not_followed(nested, read):
    """The hash, the comparison or the text of such a key would take all of the stack, or of time."""
    begun = time.monotonic()
    for content in (
        b"\x80\x02}" + nested + b"Ns.",
        b"\x80\x02}" + emit("a") + nested + b"s.",
        b"\x80\x02}" + emit("a") + emit(RECONSTRUCT) + nested + b"Rs.",
        b"\x80\x02" + nested + emit("a") + b"\x93.",
        b"\x80\x02}"
        + emit("a")
        + emit(FROM_BUFFER)
        + b"("
        + emit(b"")
        + emit(dtype())
        + nested
        + emit("C")
        + b"tRs.",
    ):
        with pytest.raises(WeightsError):
            read(content)
    assert time.monotonic() - begun < 20


def test_instructions_without_an_end(read, monkeypatch):
    monkeypatch.setattr(instructions, "MOST_INSTRUCTIONS", 1000)
    read(pickle.dumps({str(number): np.ones(3) for number in range(20)}))
    with pytest.raises(WeightsError, match="has more than 1,000 instructions, too many for arrays; save"):
        read(b"\x80\x02" + b"N" * 1000 + b".")


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x02}r\xff\xff\xff\x0f.",  # a memo index
        b"\x80\x02Np200000000\n.",
        b"\x80\x05\x96\xff\xff\xff\x7f\x01\0\0\0.",  # the length of a bytearray
        b"\x80\x04\x8e\xff\xff\xff\x7f\x01\0\0\0.",  # the length of bytes
        b"\x80\x04\x95\xff\xff\xff\x7f\x01\0\0\0}.",  # the length of a frame
        b"\x80\x03B\xff\xff\xff\x7f.",
        b"\x80\x03X\xff\xff\xff\x7f.",
        dump({"fc": array(shape=(2**40,))}),
        dump({"fc": array(shape=(2**31, 0, 2**31), content=b"")}),
    ],
)
def test_a_small_file_cannot_ask_for_gigabytes(bomb, read):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(WeightsError):
        read(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_references_to_the_same_bytes_make_no_copies(read):
    """Protocol 2 has bytes as text, which a thousand arrays could each decode anew."""
    size = 2**20

    def item(name, text):
        made = emit(Call(RECONSTRUCT, (NDARRAY, (0,), b"b")))
        content = emit(Global("_codecs", "encode")) + text + emit("latin1") + b"\x86R"
        state = b"(" + emit(1) + emit((size,)) + emit(dtype("u1", "|")) + emit(False) + content + b"t"
        return emit(name) + made + state + b"b"

    first = item("0", b"X" + struct.pack("<I", size) + b"7" * size + b"q\x01")
    others = b"".join(item(str(number), b"h\x01") for number in range(1, 1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read(b"\x80\x02}(" + first + others + b"u.")
    assert len(found) == 1000
    assert found["999"][-1] == ord("7")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
