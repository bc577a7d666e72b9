import os
import pickle
import resource
import time

import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights import instructions
from gradrev_jax.weights.tensor_pickle import (
    STORAGES,
    Storage,
    Tensor,
    find_tensors,
    swap_bytes,
    to_array,
    unpickle,
    unpickle_with_storages,
)
from tests.handmade_pickles import Built, Call, Global, Persistent, dump, emit

FLOATS = Storage("0", np.dtype(np.float32), 12)


ORDERED_DICT = Global("collections", "OrderedDict")
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def storage(kind="FloatStorage", key="0", size=12):
    return Persistent(("storage", Global("torch", kind), key, "cuda:0", size))


def tensor(storage=storage(), offset=0, shape=(3, 4), strides=(4, 1)):  # noqa: B008 (a named tuple)
    return Call(REBUILD, (storage, offset, shape, strides, False, Call(ORDERED_DICT, ())))


@pytest.mark.parametrize("kind", STORAGES)
def test_a_tensor_of_each_dtype(kind):
    described = unpickle(dump(tensor(storage(kind, "7", 20), offset=3)))
    assert described == Tensor(Storage("7", STORAGES[kind], 20), 3, (3, 4), (4, 1))


def test_a_parameter_is_its_tensor():
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), (tensor(), True, Call(ORDERED_DICT, ())))
    assert unpickle(dump(parameter)) == Tensor(FLOATS, 0, (3, 4), (4, 1))


def test_attributes_of_a_state_dict_are_ignored():
    """torch.save sets _metadata on the OrderedDict; such attributes could hide the methods of a dict."""
    state = {"_metadata": {"": {"version": 1}}, "keys": None, "items": None}
    pickled = dump(Built(Call(ORDERED_DICT, ([["bias", tensor()]],)), state))
    state_dict = unpickle(pickled)
    assert dict(state_dict) == {"bias": Tensor(FLOATS, 0, (3, 4), (4, 1))}
    assert list(state_dict.items()) == [("bias", state_dict["bias"])]
    assert list(find_tensors(state_dict)) == ["bias"]


def test_every_storage_is_returned():
    """Before torch 1.6 a storage's description ended with the storage that it is a view of."""
    old = Persistent(("storage", Global("torch", "LongStorage"), "9", "cpu", 4, None))
    described, storages = unpickle_with_storages(dump([tensor(), old]))
    assert storages == {"0": FLOATS, "9": Storage("9", np.dtype(np.int64), 4)}
    assert described == [Tensor(FLOATS, 0, (3, 4), (4, 1)), storages["9"]]
    assert [storage.num_bytes for storage in storages.values()] == [48, 32]
    view = Persistent(("storage", Global("torch", "FloatStorage"), "1", "cpu", 4, ("0", 2, 4)))
    with pytest.raises(WeightsError, match="has a storage that is a view of another; save"):
        unpickle(dump([view]))
    with pytest.raises(WeightsError, match="describes its storage 0 in two ways; save"):
        unpickle(dump([storage(), storage(size=11)]))


def test_plain_objects_are_kept():
    plain = {"epoch": 3, "loss": 0.5, "best": None, "names": ["a", ("b", True)]}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert unpickle(pickle.dumps(plain, protocol)) == plain
    assert unpickle(dump(plain)) == plain


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_named_and_not_run(protocol, tmp_path):
    hostile = pickle.dumps({"state_dict": Evil(os.mkdir, str(tmp_path / "made"))}, protocol)
    with pytest.raises(
        WeightsError, match=r"has 'posix.mkdir', which is not a tensor; nothing of the file was run; save"
    ):
        unpickle(hostile)
    assert not (tmp_path / "made").exists()
    pickle.loads(hostile)
    assert (tmp_path / "made").exists(), "the test's pickle does nothing"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("torch", "load"),
        ("torch", "UntypedStorage"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch.FloatStorage", "FloatStorage"),
        ("collections", "OrderedDict.fromkeys"),
        ("numpy.core.multiarray", "scalar"),
        ("argparse", "Namespace"),
        ("gradrev_jax.weights.tensor_pickle", "unpickle"),
    ],
)
def test_every_other_global_is_refused_by_name(module, name):
    modern = b"\x80\x04" + emit(module) + emit(name) + b"\x93."  # STACK_GLOBAL
    instance = b"(i" + f"{module}\n{name}\n.".encode()  # INST
    for pickled in (dump(Global(module, name)), modern, instance):
        with pytest.raises(WeightsError, match=f"has '{module}.{name}', which is not a tensor"):
            unpickle(pickled)


@pytest.mark.parametrize(
    "value",
    [
        Built(tensor(), (None, {"offset": 5})),
        Built(tensor(), {"offset": 5}),
        Built(storage(), (None, {"size": 5})),
        Built(ORDERED_DICT, (None, {"__setstate__": None})),
        Built(Global("torch", "FloatStorage"), {"a": 1}),
        Call(Global("torch", "FloatStorage"), (5,)),
        Call(tensor(), ()),
        Call(REBUILD, ()),
        Call(REBUILD, ("0", 0, (3,), (1,))),
        Call(REBUILD, (storage(), 0, 3, (1,))),
        tensor(offset=-1),
        tensor(offset=2.0),
        tensor(offset=True),
        tensor(shape=(-3, 4)),
        tensor(shape=("3", 4)),
        tensor(strides=(4, -1)),
        tensor(shape=(3, 2**63)),
        tensor(strides=(1,)),
        storage(size=-1),
        storage(size=1.5),
        storage(key=3),
        Persistent(("module", Global("torch", "FloatStorage"), "0", "cpu", 12)),
        Persistent(("storage", "Float", "0", "cpu", 12)),
        Persistent(("storage", ["Float"], "0", "cpu", 12)),
        Persistent("0"),
    ],
)
def test_what_torch_does_not_write(value):
    """The errors are of several types; the reader of files explains them."""
    with pytest.raises((AttributeError, TypeError, ValueError, pickle.UnpicklingError)):
        unpickle(dump({"weight": value}))
    assert unpickle(dump(tensor())) == Tensor(FLOATS, 0, (3, 4), (4, 1)), "it has changed the reader"


def test_functions_have_no_state():
    for state in ({"a": 1}, (None, {"__defaults__": (1, 2, 3, 4), "__kwdefaults__": {"a": 1}})):
        for function in (REBUILD, Global("torch._utils", "_rebuild_parameter"), ORDERED_DICT):
            with pytest.raises(ValueError, match="it sets the state of what has none"):
                unpickle(dump([Built(function, state)]))


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x05\x96\xff\xff\xff\x7f\x01\0\0\0.",  # the length of a bytearray
        b"\x80\x04\x8e\xff\xff\xff\x7f\x01\0\0\0.",  # the length of bytes
        b"\x80\x04\x95\xff\xff\xff\x7f\x01\0\0\0.",  # the length of a frame
    ],
)
def test_a_small_pickle_cannot_ask_for_gigabytes(bomb):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        unpickle(bomb)
    for index in (b"r\xff\xff\xff\x0f", b"p200000000\n"):  # of the memo
        assert unpickle(b"\x80\x02N" + index + b".") is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


DEEP = b")" + b"\x85" * 40_000  # a tuple in a tuple in a tuple: its hash would overflow the stack
DOUBLED = b")" + b"q\x00h\x00\x86" * 200  # a tuple that holds twice a tuple ...: its hash would never end
COLLIDING = b"".join(
    b"\x8a\x18" + (number * (2**61 - 1)).to_bytes(24, "little") + b"N" for number in range(20_000)
)


@pytest.mark.long
@pytest.mark.parametrize("key", [DEEP, DOUBLED], ids=["deep", "doubled"])
@pytest.mark.parametrize(
    "place",
    [
        lambda key: b"}" + key + b"Ns" + emit("bias") + emit(tensor()) + b"s",
        lambda key: emit(ORDERED_DICT) + b"((" + key + b"Nt(" + emit("bias") + emit(tensor()) + b"tl\x85R",
        lambda key: b"}" + emit("bias") + emit(tensor()) + b"s" + emit("set") + b"\x8f(" + key + b"\x90s",
        lambda key: b"}" + emit("bias") + emit(tensor()) + b"s" + emit("set") + b"(" + key + b"\x91s",
    ],
    ids=["dict", "ordered dict", "set", "frozen set"],
)
def test_a_key_that_no_hash_ends_of_is_passed_over(key, place):
    assert unpickle(b"\x80\x04" + place(key) + b".")["bias"] == Tensor(FLOATS, 0, (3, 4), (4, 1))


@pytest.mark.long
@pytest.mark.parametrize("nested", [DEEP, DOUBLED], ids=["deep", "doubled"])
def test_nested_objects_are_neither_compared_nor_shown(nested):
    pid = b"(" + emit("storage") + nested + emit("0") + emit("cpu") + emit(3) + b"tQ"
    rebuilt = emit(REBUILD) + b"(" + emit(storage()) + nested + emit((3,)) + emit((1,)) + b"tR"
    shaped = emit(REBUILD) + b"(" + emit(storage()) + emit(0) + nested + nested + b"tR"
    for hostile in (pid, nested + b"Q", rebuilt, shaped, nested + emit("a") + b"\x93", nested + b")R"):
        with pytest.raises(ValueError, match="no storage|no tensor|the name of a global|it calls"):
            unpickle(b"\x80\x04" + hostile + b".")
    with pytest.raises(WeightsError, match="has no tensors by name"):
        find_tensors(unpickle(b"\x80\x04" + nested + b"."))


def test_integers_of_one_hash_take_no_time():
    begun = time.monotonic()
    assert unpickle(b"\x80\x04}(" + COLLIDING + b"u.") == {
        0: None,
        2**61 - 1: None,
        2 * (2**61 - 1): None,
    } | {number * (2**61 - 1): None for number in range(3, 5) if number * (2**61 - 1) < 2**63}
    assert time.monotonic() - begun < 10


def test_instructions_without_an_end(monkeypatch):
    monkeypatch.setattr(instructions, "MOST_INSTRUCTIONS", 1000)
    unpickle(dump({f"{number}": tensor() for number in range(20)}))
    copies = (
        b"\x80\x02(" + emit([("a", 1)] * 100) + b"q\x00" + b"0" + (emit(ORDERED_DICT) + b"h\x00\x85R0") * 20
    )
    for endless in (b"\x80\x02" + b"N" * 1000 + b".", copies + b"t."):
        with pytest.raises(
            WeightsError, match="has more than 1,000 instructions, too many for tensors; save"
        ):
            unpickle(endless)


def test_a_tensor_has_few_dimensions():
    """A long shape that stands once in a pickle could otherwise be copied in every few bytes of it."""
    with pytest.raises(ValueError, match="no tensor: shape"):
        unpickle(dump(tensor(shape=(1,) * 65, strides=(1,) * 65)))
    with pytest.raises(ValueError, match="no tensor: shape"):
        unpickle(dump(tensor(shape=b"123", strides=(1,) * 3)))


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ([1], "has no tensors by name; save the weights alone, where torch is: torch.save"),
        (Tensor(FLOATS, 0, (3,), (1,)), "has no tensors by name; save"),
        ({}, "has no tensors by name, only nothing; save"),
        (
            {"epoch": 3, "model": {"bias": Tensor(FLOATS, 0, (3,), (1,))}},
            "by name, only 'epoch', 'model'; save",
        ),
        ({"state_dict": {"epoch": 3}}, "by name, only 'epoch'; save"),
        ({3: Tensor(FLOATS, 0, (3,), (1,))}, "by name, only 3; save"),
    ],
)
def test_no_tensors_by_name(checkpoint, message):
    with pytest.raises(WeightsError, match=message):
        find_tensors(checkpoint)


def test_tensors_by_name():
    tensor = Tensor(FLOATS, 0, (3,), (1,))
    assert find_tensors({"bias": tensor, "epoch": 3, 4: tensor}) == {"bias": tensor}
    assert find_tensors({"optimizer": {"bias": 1}, "state_dict": {"weight": tensor}}) == {"weight": tensor}
    assert find_tensors({"state_dict": tensor}) == {"state_dict": tensor}


def slow_array(content, tensor):
    """Every element by its index, from the definition of strides."""
    numbers = np.frombuffer(content, tensor.storage.dtype)
    result = np.zeros(tensor.shape, tensor.storage.dtype)
    for index in np.ndindex(*tensor.shape):
        place = sum(i * stride for i, stride in zip(index, tensor.strides, strict=True))
        result[index] = numbers[tensor.offset + place]
    return result


@pytest.mark.parametrize("kind", STORAGES)
def test_arrays_of_each_dtype(kind, rng):
    check_view(kind, 1, (2, 3), (6, 2), rng)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (3, 4), (4, 1)),
        (0, (4, 3), (1, 4)),  # a transpose
        (1, (2, 3), (6, 2)),  # a window of every other column
        (11, (), ()),
        (11, (1, 1), (100, 100)),
        (5, (3,), (0,)),  # expanded
        (0, (2, 2, 3), (6, 3, 1)),
        (0, (0, 3), (3, 1)),
        (99, (0,), (1,)),
    ],
)
def test_views_against_explicit_indexing(offset, shape, strides, rng):
    check_view("FloatStorage", offset, shape, strides, rng)


def check_view(kind, offset, shape, strides, rng):
    dtype = STORAGES[kind]
    content = (
        rng.integers(0, 2, 12).astype(dtype) if dtype.kind == "b" else rng.normal(size=12).astype(dtype) * 50
    )
    tensor = Tensor(Storage("0", dtype, 12), offset, shape, strides)
    array = to_array("weight", tensor, content.astype(dtype).tobytes())
    assert array.dtype == dtype
    assert array.shape == shape
    np.testing.assert_array_equal(array, slow_array(content.astype(dtype).tobytes(), tensor))


def test_big_endian_numbers():
    assert swap_bytes(np.array([1, 2, 3], ">f4").tobytes(), 4) == np.array([1, 2, 3], "<f4").tobytes()
    brain = Tensor(Storage("0", np.dtype(jnp.bfloat16), 1), 0, (1,), (1,))
    assert to_array("weight", brain, swap_bytes(b"\x3f\xc0", 2)).tolist() == [1.5]
    assert swap_bytes(b"\1\2", 1) == b"\1\2"


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "last"),
    [
        (0, (13,), (1,), "12"),
        (12, (1,), (1,), "12"),
        (12, (), (), "12"),
        (1, (3, 4), (4, 1), "12"),
        (0, (2, 2), (11, 1), "12"),
        (0, (2**40, 2), (2**40, 1), "1,208,925,819,613,529,663,078,401"),
    ],
)
def test_a_window_beyond_its_storage(offset, shape, strides, last):
    tensor = Tensor(FLOATS, offset, shape, strides)
    with pytest.raises(
        WeightsError, match=f"has the tensor weight reach to element {last} of a storage of 12; save"
    ):
        to_array("weight", tensor, bytes(48))


def test_a_storage_beyond_its_bytes():
    tensor = Tensor(FLOATS, 0, (1,), (1,))
    with pytest.raises(
        WeightsError, match="has 47 bytes for weight, which is declared as 12 numbers of float32"
    ):
        to_array("weight", tensor, bytes(47))


@pytest.mark.parametrize("shape", [(2**62, 4), (1,) * 100])
def test_shapes_that_numpy_has_no_arrays_of(shape):
    with pytest.raises((ValueError, OverflowError)):
        to_array("weight", Tensor(FLOATS, 0, shape, (0,) * len(shape)), bytes(48))
