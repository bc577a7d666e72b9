"""Silences Pillow's warnings while images are read, whatever other threads do."""

import contextlib
import threading
import warnings
from collections.abc import Iterator


class _Silence:
    """The filter of warnings, set by the first reader and taken back by the last.

    ``warnings.catch_warnings`` restores what it found. Of two threads that overlap, the later to end would
    restore the filter of the earlier, and leave the process without its warnings for good.
    """

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0
        self._restored_at_the_end = contextlib.ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._readers:
                self._restored_at_the_end.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            self._readers += 1

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._restored_at_the_end.close()


_SILENCE = _Silence()


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignores warnings of Pillow, and of nothing else, within a block that several threads may be in at once.

    Example:
      >>> with quiet_pillow(), warnings.catch_warnings(record=True) as caught:
      ...     warnings.warn_explicit("damaged metadata", UserWarning, "Image.py", 1, module="PIL.Image")
      >>> caught
      []
    """
    _SILENCE.enter()
    try:
        yield
    finally:
        _SILENCE.leave()
