"""The files of the page: a fixed list, read once."""

import hashlib
import pathlib
from typing import NamedTuple

PAGE = pathlib.Path(__file__).parent / "static"
OPENAPI = pathlib.Path(__file__).with_name("openapi.json")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}
FIRST_PAGE = "index.html"


class StaticFile(NamedTuple):
    """A file as it is sent."""

    content: bytes
    kind: str
    etag: str


def etag_of(content: bytes) -> str:
    """Returns the tag by which a browser asks whether its copy is still good.

    Example:
      >>> etag_of(b"")
      '"cae66941d9efbd404e4d88758ea67670"'
    """
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def read_files(folder: pathlib.Path) -> dict[str, StaticFile]:
    """Returns the files of a folder by their names; those of unknown kinds are left out.

    Args:
      folder: the folder, without folders inside that matter.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in KINDS and path.is_file():
            content = path.read_bytes()
            files[path.name] = StaticFile(content, KINDS[path.suffix], etag_of(content))
    return files
