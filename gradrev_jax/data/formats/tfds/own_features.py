"""Lets TFDS restore features of its own classes alone: it imports whatever module a description names."""

import contextlib
import contextvars
import functools
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

from gradrev_jax.errors import DataError, first_line

FEATURES = "features.json"  # of a prepared data set
OWN_FEATURES = "tensorflow_datasets.core.features."

# What is read, for messages; None: TFDS is called by others, who may have features of their own. Each thread
# has its own.
_read: contextvars.ContextVar[str | None] = contextvars.ContextVar("read", default=None)
_installing = threading.Lock()
_wrapped: list[Any] = []  # the class of TFDS, once it is


@contextlib.contextmanager
def own_features_only(tfds: Any, described: str) -> Iterator[None]:
    """Refuses features of other classes before their modules are imported, while the block runs.

    Other threads, and calls of TFDS outside of the block, are left alone.

    Args:
      tfds: the package tensorflow_datasets.
      described: the data set that is opened, for messages.

    Raises:
      DataError: the description of the features names another class, or is damaged.
    """
    _install(tfds.features.FeatureConnector)
    token = _read.set(described)
    try:
        yield
    finally:
        _read.reset(token)


def _install(connector: Any) -> None:
    """Wraps the two functions by which TFDS restores features, once for good."""
    with _installing:
        if connector not in _wrapped:
            connector.cls_from_name = classmethod(_guarded(connector.cls_from_name.__func__))
            connector.from_config = classmethod(_named(connector.from_config.__func__))
            _wrapped.append(connector)


def _guarded(class_of: Any) -> Any:
    """Returns the function that finds a class by its name, which TFDS imports; foreign ones are refused."""

    @functools.wraps(class_of)
    def guarded(cls: Any, python_class_name: Any) -> Any:
        read = _read.get()
        if read is not None and not str(python_class_name).startswith(OWN_FEATURES):
            raise DataError(
                f"{read} has features of a class that is not TFDS's own, {python_class_name!r:.100}, which "
                "would be imported, and can run any program; prepare the data set with TFDS's own features"
            )
        return class_of(cls, python_class_name)

    return guarded


def _named(restore: Any) -> Any:
    """Returns the function that restores the features of a folder; its errors name the file."""

    @functools.wraps(restore)
    def named(cls: Any, root_dir: Any) -> Any:
        if _read.get() is None:
            return restore(cls, root_dir)
        path = pathlib.Path(root_dir, FEATURES)
        token = _read.set(str(path))
        try:
            return restore(cls, root_dir)
        except (DataError, MemoryError, OSError):
            raise
        except Exception as error:  # what is damaged leads to errors of many types
            raise DataError(f"{path} is damaged ({first_line(error)}); prepare the data set again") from error
        finally:
            _read.reset(token)

    return named
