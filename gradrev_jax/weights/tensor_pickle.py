"""Reads pickles of PyTorch tensors, without torch and without executing them."""

import reprlib
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.instructions import LONGEST_NAME, Instructions

# The class of a storage in a pickle -> the dtype of its numbers.
STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
MOST_DIMENSIONS = 64  # of an array of NumPy
LARGEST_PICKLE = 2**24  # bytes; a pickle has only names and shapes, a few kB for AlexNet
SAVE_AGAIN = "save the weights alone, where torch is: torch.save(model.state_dict(), PATH)"


class Storage(NamedTuple):
    """A storage: a sequence of numbers that tensors are views of.

    Attributes:
      key: the name of the storage in its file.
      dtype: the dtype of the numbers.
      size: the number of numbers.
    """

    key: str
    dtype: np.dtype
    size: int

    @property
    def num_bytes(self) -> int:
        """The size of the numbers in bytes."""
        return self.size * self.dtype.itemsize


class Tensor(NamedTuple):
    """A tensor as described by its pickle: a strided view of a storage.

    Attributes:
      storage: the storage.
      offset: the index of the first element in the storage.
      shape: the shape.
      strides: the strides, in elements.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Dict(dict[Any, Any]):
    """Stands in for OrderedDict; its attributes, such as the versions of torch's modules, are ignored."""


class _Global(NamedTuple):
    """The name of a function or a class that a pickle refers to; it is never looked up."""

    module: str
    name: str


TENSOR, PARAMETER = (
    _Global("torch._utils", "_rebuild_tensor_v2"),
    _Global("torch._utils", "_rebuild_parameter"),
)
ORDERED_DICT = _Global("collections", "OrderedDict")
GLOBALS = {TENSOR, PARAMETER, ORDERED_DICT, *(_Global("torch", name) for name in STORAGES)}


class _Tensors(Instructions):
    """Follows a pickle that has tensors and plain Python objects."""

    objects, one, advice = "tensors", "a tensor", SAVE_AGAIN
    names: ClassVar = {name: name for name in GLOBALS}

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[str, Storage] = {}

    def call(self, function: Any, arguments: Any) -> Any:
        """Returns a tensor, or a new dict; ignores whether a tensor needs a gradient, hooks and metadata."""
        if type(function) is not _Global or type(arguments) is not tuple:
            raise ValueError("it calls what is no function")
        if function == TENSOR:
            return _tensor(*arguments[:4])
        if function == PARAMETER:
            return arguments[0]
        if function == ORDERED_DICT:
            return self._ordered_dict(*arguments)
        raise ValueError(f"it calls {function.name}")

    def _ordered_dict(self, pairs: Any = ()) -> _Dict:
        """Returns a dict of a list of pairs, as Python 2 wrote it."""
        if type(pairs) not in (list, tuple):
            raise ValueError("a dict is made of what is no list")
        self.spend(len(pairs))
        if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            raise ValueError("a dict is made of what are no pairs")
        return _Dict((key, value) for key, value in pairs if self.check_key(key))

    def set_state(self, target: Any, state: Any) -> None:
        """Ignores the attributes of dicts; nothing else has any."""
        if type(target) is not _Dict:
            raise ValueError("it sets the state of what has none")

    def refer(self, pid: Any) -> Storage:
        """Returns the storage of ("storage", class, key, device, size); before torch 1.6, a None follows."""
        if type(pid) is not tuple or len(pid) < 5:
            raise ValueError(f"no storage: {reprlib.repr(pid)}")
        kind, made, key, _, size, *view = pid
        is_class = type(made) is _Global and made.name in STORAGES
        if kind != "storage" or not is_class or type(key) is not str or not are_counts((size,)):
            raise ValueError(f"no storage: {reprlib.repr(pid)}")
        if view and (len(view) > 1 or view[0] is not None):
            raise WeightsError(f"has a storage that is a view of another; {SAVE_AGAIN}")
        storage = Storage(key, STORAGES[made.name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsError(f"describes its storage {key[:LONGEST_NAME]} in two ways; {SAVE_AGAIN}")
        return storage


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Returns a tensor, if it is described by counts."""
    are_tuples = type(shape) is tuple and type(strides) is tuple
    if not are_tuples or len(shape) > MOST_DIMENSIONS or len(shape) != len(strides):
        raise ValueError(f"no tensor: shape {reprlib.repr(shape)}, strides {reprlib.repr(strides)}")
    if type(storage) is not Storage or not are_counts((offset, *shape, *strides)):
        raise ValueError(f"no tensor: {reprlib.repr((offset, shape, strides))}")  # repr may have no end
    return Tensor(storage, offset, shape, strides)


def are_counts(numbers: tuple[Any, ...]) -> bool:
    """Returns whether all are integers, not bools, from 0 to the largest 64-bit integer.

    Example:
      >>> are_counts((0, 3)), are_counts((True,)), are_counts((-1,)), are_counts((2**63,))
      (True, False, False, False)
    """
    return all(type(number) is int and 0 <= number < 2**63 for number in numbers)


def unpickle(content: bytes) -> Any:
    """Reads a pickle, with a ``Tensor`` for each PyTorch tensor and a dict for each OrderedDict.

    Args:
      content: the pickle.

    Raises:
      WeightsError: the pickle has objects other than tensors and plain Python objects; the message names one.
      Exception: the pickle is damaged; ``pickle`` and ``pickletools`` raise errors of many types.

    Example:
      >>> import pickle
      >>> unpickle(pickle.dumps({"epoch": 3}))
      {'epoch': 3}
      >>> unpickle(pickle.dumps(print))
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: has 'builtins.print', which is not a tensor; nothing of the file was...
    """
    return unpickle_with_storages(content)[0]


def unpickle_with_storages(content: bytes) -> tuple[Any, dict[str, Storage]]:
    """Reads a pickle as ``unpickle`` does; also returns all storages that it refers to, by key.

    Example:
      >>> import pickle
      >>> unpickle_with_storages(pickle.dumps([1, 2]))
      ([1, 2], {})
    """
    tensors = _Tensors()
    return tensors.follow(content), tensors.storages


def find_tensors(checkpoint: Any) -> dict[str, Tensor]:
    """Returns the tensors of a state dict, or of a checkpoint that has one under ``"state_dict"``.

    Args:
      checkpoint: the object from ``unpickle``.

    Returns:
      The tensors by name.

    Raises:
      WeightsError: there are none.

    Example:
      >>> tensor = Tensor(Storage("0", np.dtype(np.float32), 6), 0, (2, 3), (3, 1))
      >>> list(find_tensors({"epoch": 3, "state_dict": {"fc.weight": tensor}}))
      ['fc.weight']
    """
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"has no tensors by name; {SAVE_AGAIN}")
    tensors = {
        name: tensor
        for name, tensor in checkpoint.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not tensors:
        names = ", ".join(map(reprlib.repr, list(checkpoint)[:5])) or "nothing"
        raise WeightsError(f"has no tensors by name, only {names}; {SAVE_AGAIN}")
    return tensors


def swap_bytes(content: bytes, size: int) -> bytes:
    r"""Returns the bytes of big-endian numbers as those of little-endian ones.

    Args:
      content: the bytes; what lies behind the last whole number is left out.
      size: the number of bytes of one.

    Example:
      >>> swap_bytes(b"\1\2\3\4\5", 2)
      b'\x02\x01\x04\x03'
    """
    return np.frombuffer(content, f"u{size}", len(content) // size).byteswap().tobytes()


def to_array(name: str, tensor: Tensor, content: bytes) -> np.ndarray:
    """Converts a tensor to an array: a read-only view of its storage.

    Args:
      name: the name of the tensor, for errors.
      tensor: the tensor.
      content: the bytes of its storage, little-endian.

    Raises:
      WeightsError: the tensor extends beyond its storage, or the storage beyond its bytes.
      ValueError, OverflowError: NumPy has no arrays of this shape.

    Example:
      >>> tensor = Tensor(Storage("0", np.dtype(np.uint8), 6), 1, (2, 2), (1, 2))
      >>> to_array("fc.weight", tensor, bytes([10, 11, 12, 13, 14, 15]))
      array([[11, 13],
             [12, 14]], dtype=uint8)
    """
    storage, offset, shape, strides = tensor
    dtype, size, shown = storage.dtype, storage.size, name[:LONGEST_NAME]
    if len(content) < storage.num_bytes:
        raise WeightsError(
            f"has {len(content):,} bytes for {shown}, which is declared as {size:,} numbers of {dtype}; "
            f"{SAVE_AGAIN}"
        )
    if 0 in shape:
        return np.zeros(shape, dtype)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if last >= size:
        raise WeightsError(
            f"has the tensor {shown} reach to element {last:,} of a storage of {size:,}; {SAVE_AGAIN}"
        )
    integers = np.frombuffer(content, f"<u{dtype.itemsize}", size)
    elements = integers.astype(integers.dtype.newbyteorder("="), copy=False).view(dtype)[offset:]
    return np.lib.stride_tricks.as_strided(
        elements, shape, [stride * dtype.itemsize for stride in strides], writeable=False
    )
