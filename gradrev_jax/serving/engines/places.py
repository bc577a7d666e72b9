"""Where an engine's gallery is, as a person writes it: milvus:PATH.db or milvus:http://HOST:PORT."""

import pathlib
import re
import urllib.parse
from typing import NamedTuple

from gradrev_jax.errors import ConfigError
from gradrev_jax.files import expand

KIND = "milvus:"
COLLECTION = "gradrev_gallery"
FORMS = (
    "milvus:PATH.db (a folder on this machine) or milvus:http://HOST:PORT (a server), then #NAME for a "
    "collection of its own"
)


class Place(NamedTuple):
    """The collection of an engine.

    Attributes:
      address: the path or the URL that the client connects to.
      collection: the name of the collection.
      path: the folder of an embedded engine; None: the engine is a server.
      text: the place as a person reads it, without credentials.
    """

    address: str
    collection: str
    path: pathlib.Path | None
    text: str


def parse_place(text: str) -> Place:
    """Parses the place of an engine.

    Args:
      text: ``milvus:PATH.db`` or ``milvus:http://HOST:PORT``, optionally with ``#COLLECTION``. As in any URL,
        credentials may precede the host, and the name of a database may follow the port.

    Raises:
      ConfigError: it is neither of them, or the name of the collection is none.

    Example:
      >>> parse_place("milvus:http://localhost:19530#winter").collection
      'winter'
      >>> parse_place("milvus:shop.db").address
      'shop.db'
    """
    address, separator, collection = text.removeprefix(KIND).partition("#")
    if not text.startswith(KIND):
        raise _not_a_place(text)
    if separator and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", collection):
        raise ConfigError(
            f"{collection!r} is no name of a collection; take letters, digits and _, and a letter first",
            arguments=("engine",),
        )
    collection = collection or COLLECTION
    if re.match(r"https?://", address):
        try:
            parts = urllib.parse.urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _not_a_place(text) from error
        if not host:
            raise _not_a_place(text)
        shown = f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 19530)}"
        return Place(address, collection, None, _named(shown, collection))
    if not address.endswith(".db") or "://" in address:
        raise _not_a_place(text)
    path = expand(address, "engine")
    return Place(str(path), collection, path, _named(str(path), collection))


def _named(shown: str, collection: str) -> str:
    return shown if collection == COLLECTION else f"{shown}#{collection}"


def _not_a_place(text: str) -> ConfigError:
    return ConfigError(f"{text!r} is no engine; give {FORMS}", arguments=("engine",))
