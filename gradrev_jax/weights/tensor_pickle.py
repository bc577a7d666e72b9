"""Pickles of torch's tensors, read without torch and without running anything of them."""

import io
import pickle
import pickletools
import reprlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError

# Class of a storage in a pickle -> what its bytes are.
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
LARGEST_PICKLE = 2**24  # bytes; holds names and shapes only: a few kB for AlexNet
SAVE_AGAIN = "save the weights alone, where torch is: torch.save(model.state_dict(), PATH)"


class Storage(NamedTuple):
    """Where tensors have their numbers.

    Attributes:
      key: names the storage within its file.
      dtype: of the numbers.
      size: how many there are.
    """

    key: str
    dtype: np.dtype
    size: int

    @property
    def num_bytes(self) -> int:
        """Bytes of its numbers."""
        return self.size * self.dtype.itemsize


class Tensor(NamedTuple):
    """A tensor as its pickle describes it: a strided window of a storage, counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict; the versions of modules, which torch hangs on it, are dropped."""

    def __setstate__(self, state: object) -> None:
        """Drop them."""


class _Unpickler(pickle.Unpickler):
    """Knows tensors and nothing else.

    A pickle can call what it gets hold of, and set its state. So it gets hold of nothing of ours that either
    could change: a string for a storage's class, functions made for this lookup, named tuples, and a dict
    that takes no state. No array is among it, and no dtype.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a global of the pickle stands for."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: _tensor(*arguments)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if module == "torch" and name in STORAGES:
            return name
        raise WeightsError(
            f"holds {f'{module}.{name}'!r}, which is no tensor; nothing of the file was run; {SAVE_AGAIN}"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """Storage of ("storage", class, key, device, number of elements), and None before torch 1.6."""
        kind, name, key, _, size, *view = pid
        if kind != "storage" or name not in STORAGES or type(key) is not str or not _are_counts((size,)):
            raise ValueError(f"no storage: {reprlib.repr(pid)}")
        if view not in ([], [None]):
            raise WeightsError(f"has a storage that is a view of another; {SAVE_AGAIN}")
        storage = Storage(key, STORAGES[name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsError(f"describes its storage {key} in two ways; {SAVE_AGAIN}")
        return storage


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """A tensor; whether it needs a gradient, its hooks and its metadata do not matter here."""
    if not isinstance(storage, Storage) or not _are_counts((offset, *shape, *strides)):
        raise ValueError(f"no tensor: {reprlib.repr((offset, shape, strides))}")  # repr may have no end
    if len(shape) != len(strides):
        raise ValueError(f"no tensor: shape {shape}, strides {strides}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _are_counts(numbers: tuple[Any, ...]) -> bool:
    """Whether all are integers from 0 up that NumPy can count with; a bool is none."""
    return all(type(number) is int and 0 <= number < 2**63 for number in numbers)


def unpickle(content: bytes) -> Any:
    """What a pickle describes, with a ``Tensor`` for each of torch's tensors and a dict for each OrderedDict.

    Args:
      content: the pickle.

    Raises:
      WeightsError: it holds something else than tensors and plain Python objects; the message names it.
      Exception: it is damaged; ``pickle`` and ``pickletools`` raise nearly anything.

    Example:
      >>> unpickle(pickle.dumps({"epoch": 3}))
      {'epoch': 3}
      >>> unpickle(pickle.dumps(print))
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: holds 'builtins.print', which is no tensor; nothing of the file was...
    """
    return unpickle_with_storages(content)[0]


def unpickle_with_storages(content: bytes) -> tuple[Any, dict[str, Storage]]:
    """What ``unpickle`` gives, and by its key every storage that the pickle refers to, used or not.

    Example:
      >>> unpickle_with_storages(pickle.dumps([1, 2]))
      ([1, 2], {})
    """
    # The unpickler makes room for memo indices and lengths before it looks for what belongs there: eight
    # bytes can ask for gigabytes. So they are looked at first; genops checks the lengths.
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise ValueError(f"memo index {argument}")
    unpickler = _Unpickler(content)
    return unpickler.load(), unpickler.storages


def named_tensors(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of a checkpoint that has one under ``"state_dict"``.

    Args:
      checkpoint: from ``unpickle``.

    Raises:
      WeightsError: it has none.

    Example:
      >>> tensor = Tensor(Storage("0", np.dtype(np.float32), 6), 0, (2, 3), (3, 1))
      >>> list(named_tensors({"epoch": 3, "state_dict": {"fc.weight": tensor}}))
      ['fc.weight']
    """
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"holds no tensors by name; {SAVE_AGAIN}")
    tensors = {
        name: tensor
        for name, tensor in checkpoint.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not tensors:
        names = ", ".join(map(reprlib.repr, list(checkpoint)[:5])) or "nothing"
        raise WeightsError(f"holds no tensors by name, but {names}; {SAVE_AGAIN}")
    return tensors


def as_array(name: str, tensor: Tensor, content: bytes, *, big_endian: bool = False) -> np.ndarray:
    """A tensor's numbers: a read-only view of its storage's bytes, or of a copy where their order is turned.

    Args:
      name: the tensor's, for errors.
      tensor: its window of the storage.
      content: the storage's bytes.
      big_endian: their order.

    Raises:
      WeightsError: the window reaches beyond the storage, or the storage beyond its bytes.
      ValueError, OverflowError: a shape that NumPy has no arrays of.

    Example:
      >>> tensor = Tensor(Storage("0", np.dtype(np.uint8), 6), 1, (2, 2), (1, 2))
      >>> as_array("fc.weight", tensor, bytes([10, 11, 12, 13, 14, 15]))
      array([[11, 13],
             [12, 14]], dtype=uint8)
    """
    storage, offset, shape, strides = tensor
    dtype, size = storage.dtype, storage.size
    if len(content) < storage.num_bytes:
        raise WeightsError(
            f"has {len(content):,} bytes for {name}, where {size:,} numbers of {dtype} are declared; "
            f"{SAVE_AGAIN}"
        )
    if 0 in shape:
        return np.zeros(shape, dtype)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if last >= size:
        raise WeightsError(f"has {name} reach to element {last:,} of a storage of {size:,}; {SAVE_AGAIN}")
    integers = np.frombuffer(content, f"{'>' if big_endian else '<'}u{dtype.itemsize}", size)
    elements = integers.astype(integers.dtype.newbyteorder("="), copy=False).view(dtype)[offset:]
    return np.lib.stride_tricks.as_strided(
        elements, shape, [stride * dtype.itemsize for stride in strides], writeable=False
    )
