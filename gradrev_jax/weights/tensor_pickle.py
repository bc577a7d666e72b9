"""Reads pickles of PyTorch tensors, without torch and without executing them."""

import io
import pickle
import pickletools
import reprlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError

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
    """Stands in for OrderedDict; ignores its attributes, in which torch stores the versions of modules."""

    def __setstate__(self, state: object) -> None:
        """Ignores the attributes."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors and nothing else.

    A pickle can call the objects that it obtains, and set their state. Here it obtains only objects that
    neither can harm: a string for the class of a storage, functions created for one lookup, named tuples, and
    a dict that ignores state; no array and no dtype.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns the object that stands in for a global name in the pickle."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: _tensor(*arguments)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if module == "torch" and name in STORAGES:
            return name
        raise WeightsError(
            f"has {f'{module}.{name}'!r}, which is not a tensor; nothing of the file was run; {SAVE_AGAIN}"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """Returns the storage of ("storage", class, key, device, size); before torch 1.6, a None follows."""
        kind, name, key, _, size, *view = pid
        if kind != "storage" or name not in STORAGES or type(key) is not str or not are_counts((size,)):
            raise ValueError(f"no storage: {reprlib.repr(pid)}")
        if view not in ([], [None]):
            raise WeightsError(f"has a storage that is a view of another; {SAVE_AGAIN}")
        storage = Storage(key, STORAGES[name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsError(f"describes its storage {key} in two ways; {SAVE_AGAIN}")
        return storage


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """Returns a tensor; ignores whether it needs a gradient, its hooks and its metadata."""
    if not isinstance(storage, Storage) or not are_counts((offset, *shape, *strides)):
        raise ValueError(f"no tensor: {reprlib.repr((offset, shape, strides))}")  # repr may have no end
    if len(shape) != len(strides):
        raise ValueError(f"no tensor: shape {shape}, strides {strides}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


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
      >>> unpickle_with_storages(pickle.dumps([1, 2]))
      ([1, 2], {})
    """
    # The unpickler allocates memory for memo indices and lengths before it reads what belongs there, so eight
    # bytes can ask for gigabytes. They are checked first; genops checks the lengths.
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise ValueError(f"memo index {argument}")
    unpickler = _Unpickler(content)
    return unpickler.load(), unpickler.storages


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


def to_array(name: str, tensor: Tensor, content: bytes, *, big_endian: bool = False) -> np.ndarray:
    """Converts a tensor to an array: a read-only view of the storage, or of a copy if bytes are swapped.

    Args:
      name: the name of the tensor, for errors.
      tensor: the tensor.
      content: the bytes of its storage.
      big_endian: whether the numbers are big-endian.

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
    dtype, size = storage.dtype, storage.size
    if len(content) < storage.num_bytes:
        raise WeightsError(
            f"has {len(content):,} bytes for {name}, which is declared as {size:,} numbers of {dtype}; "
            f"{SAVE_AGAIN}"
        )
    if 0 in shape:
        return np.zeros(shape, dtype)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if last >= size:
        raise WeightsError(
            f"has the tensor {name} reach to element {last:,} of a storage of {size:,}; {SAVE_AGAIN}"
        )
    integers = np.frombuffer(content, f"{'>' if big_endian else '<'}u{dtype.itemsize}", size)
    elements = integers.astype(integers.dtype.newbyteorder("="), copy=False).view(dtype)[offset:]
    return np.lib.stride_tricks.as_strided(
        elements, shape, [stride * dtype.itemsize for stride in strides], writeable=False
    )
