"""Connects to Milvus, embedded or a server; what goes wrong there becomes one message."""

import contextlib
import importlib
import logging
import pathlib
import threading
import time
from types import ModuleType
from typing import Any

from gradrev_jax.data.images.file_locks import is_in_use
from gradrev_jax.errors import ConfigError, DataError, EngineError, first_line
from gradrev_jax.serving.engines.places import Place

ATTEMPTS, CONNECT_SECONDS, PAUSE_SECONDS = 3, 1.5, 0.5  # an unreachable server costs 5.5 s
CALL_SECONDS = 10.0  # for a search, with the client's own retries
OPEN_SECONDS = 60.0  # an embedded engine reads its files first
LOCK = "LOCK"  # milvus-lite's lock, one process per folder
_OPEN: dict[pathlib.Path, int] = {}  # how many connections of this process use each embedded engine
_OPENING = threading.Lock()


class Connection:
    """A connection to the collection of a place.

    Args:
      client: pymilvus's client.
      place: where it leads to.
    """

    def __init__(self, client: Any, place: Place) -> None:
        self._client, self.place = client, place
        self._is_closed = False

    def call(self, method: str, *arguments: Any, seconds: float = CALL_SECONDS, **options: Any) -> Any:
        """Calls a method of the client with the collection's name.

        Args:
          method: the name of the method.
          *arguments: its arguments after the name of the collection.
          seconds: how long it is tried.
          **options: more of its arguments.

        Raises:
          EngineError: the engine does not answer, or refuses.
        """
        import grpc
        import pymilvus

        if self._is_closed:
            raise EngineError(f"{self.place.text}: the connection is closed; open it again")
        try:
            return getattr(self._client, method)(
                self.place.collection, *arguments, timeout=seconds, **options
            )
        except (pymilvus.MilvusException, grpc.RpcError) as error:
            raise EngineError(
                f"{self.place.text}: the engine failed at {method}: {reason(error)}", arguments=("engine",)
            ) from error

    def close(self) -> None:
        """Closes the connection, and an embedded engine that no other connection of this process uses."""
        with _OPENING:
            if self._is_closed:
                return
            self._is_closed = True
            self._client.close()
            if self.place.path is not None:
                _release(self.place.path.absolute())


def connect(place: Place, *, create: bool = False) -> Connection:
    """Connects to a place.

    Args:
      place: the place.
      create: whether an embedded engine's folder is created if it does not exist.

    Raises:
      ConfigError: the packages are not installed.
      DataError: there is no such folder, another process has it open, or no server answers.
    """
    pymilvus = _import_packages(embedded=place.path is not None)
    # A handler of its own keeps Python from printing the client's log, whose errors are raised as well.
    for name in ("pymilvus", "milvus_lite"):
        if not (log := logging.getLogger(name)).handlers:
            log.addHandler(logging.NullHandler())
    if place.path is not None:
        return Connection(_open_embedded(pymilvus, place, place.path, create), place)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            client = pymilvus.MilvusClient(uri=place.address, timeout=CONNECT_SECONDS, dedicated=True)
            return Connection(client, place)
        except pymilvus.MilvusException as error:
            if attempt == ATTEMPTS:
                raise EngineError(
                    f"{place.text} does not answer ({ATTEMPTS} attempts): {reason(error)}; start the server, "
                    "or mend the address",
                    arguments=("engine",),
                ) from error
            time.sleep(PAUSE_SECONDS)
    raise AssertionError


def reason(error: BaseException) -> str:
    """Returns the message of the client's error, in one line."""
    details = (
        getattr(error, "message", None) or getattr(error, "details", lambda: None)() or first_line(error)
    )
    return str(details).strip().splitlines()[0] if str(details).strip() else type(error).__name__


def _import_packages(*, embedded: bool) -> ModuleType:
    try:
        if embedded:
            importlib.import_module("milvus_lite.server_manager")
        return importlib.import_module("pymilvus")
    except ImportError as error:
        raise ConfigError(
            f"the engine needs a package that is not installed ({first_line(error)}): run "
            "`pip install 'gradrev_jax[milvus]'`",
            arguments=("engine",),
        ) from error


def _open_embedded(pymilvus: ModuleType, place: Place, path: pathlib.Path, create: bool) -> Any:
    """Opens the engine of a folder, which this process may have open already."""
    if not create and not path.exists():
        raise DataError(f"{path} does not exist; fill it with index.py", arguments=("engine",))
    if path.exists() and not (path.is_dir() and ((path / LOCK).exists() or not any(path.iterdir()))):
        raise DataError(
            f"{path} is something else than an engine's folder; give another", arguments=("engine",)
        )
    key = path.absolute()
    with _OPENING:
        if key not in _OPEN and _is_locked(path / LOCK):
            raise DataError(
                f"{path} is open in another process, and one at a time can have it. For several, run "
                f"`milvus-lite server --data-dir {path} --host 127.0.0.1` and give milvus:http://127.0.0.1:19530",
                arguments=("engine",),
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            client = pymilvus.MilvusClient(
                uri=str(key),
                timeout=OPEN_SECONDS,
                dedicated=True,
                grpc_options={"grpc.enable_http_proxy": 0},
            )
        except pymilvus.MilvusException as error:
            raise DataError(f"{path} cannot be opened: {reason(error)}", arguments=("engine",)) from error
        _OPEN[key] = _OPEN.get(key, 0) + 1
        return client


def _release(path: pathlib.Path) -> None:
    """Counts one connection less to an embedded engine, and stops it after the last."""
    _OPEN[path] -= 1
    if not _OPEN[path]:
        del _OPEN[path]
        importlib.import_module("milvus_lite.server_manager").server_manager_instance.release_server(
            str(path)
        )


def _is_locked(lock: pathlib.Path) -> bool:
    with contextlib.suppress(FileNotFoundError), lock.open("r+b") as file:
        return is_in_use(file)
    return False
