"""A cache bounded by the number or the bytes of its entries, which evicts the least recently used."""

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Represents the most recently used values of a function; its methods may be called from several threads.

    Args:
      most: the sum of the sizes of all entries that are kept.
      size: a function that returns the size of an entry; the number of entries is bounded without one.

    Example:
      >>> kept = Recent(2)
      >>> [kept.get_or_make(key, str) for key in (1, 2, 1, 3)], len(kept), kept.get(2)
      (['1', '2', '1', '3'], 2, None)
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._most, self._size = most, size
        self._entries: collections.OrderedDict[K, V] = collections.OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Returns the value of a key, and counts it as used; None if it is not kept."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Keeps a value, and lets go of those that were not used for longest."""
        with self._lock:
            before = self._entries.pop(key, None)
            self._total += self._size(value) - (self._size(before) if before is not None else 0)
            self._entries[key] = value
            while self._total > self._most:
                self._total -= self._size(self._entries.popitem(last=False)[1])

    def get_or_make(self, key: K, make: Callable[[K], V]) -> V:
        """Returns the value of a key, which is made if it is not kept.

        Args:
          key: the key.
          make: the function that makes the value of the key; two threads may make it at once.
        """
        value = self.get(key)
        if value is None:
            value = make(key)
            self.put(key, value)
        return value
