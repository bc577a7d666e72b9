"""Image files, and a cache of decoded pixels for any image source."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import io
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.errors import DataError

# Part of every cache key: a change to how images are decoded or laid out must not meet old entries.
CACHE_VERSION = b"gradrev_jax images 1"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files below a folder.

    Attributes:
      root: the folder.
      paths: of the files, relative to it.
    """

    root: pathlib.Path
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """Path of the file, as the catalogue gives it."""
        return self.paths[row]

    def digest(self, row: int) -> bytes:
        """Digest of the file's bytes."""
        return hashlib.blake2b((self.root / self.paths[row]).read_bytes(), digest_size=16).digest()

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """Decode, turn upright, convert to RGB, resize (bilinear, antialiased) and centre-crop.

        Raises:
          OSError, ValueError: the file is missing, truncated, no image, or unreasonably large.
        """
        path = self.root / self.paths[row]
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        with opened(path) as image:
            return squared(image, transform)


@contextlib.contextmanager
def opened(file: pathlib.Path | io.BytesIO) -> Iterator[Image.Image]:
    """A Pillow image, without warnings: of damaged metadata and large sizes; what matters is the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            yield image


def squared(image: Image.Image, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
    """Turned upright, in RGB, resized (bilinear, antialiased) and centre-cropped."""
    size = (transform.resize, transform.resize)
    resized = as_rgb(ImageOps.exif_transpose(image)).resize(size, Image.Resampling.BILINEAR)
    margin = (transform.resize - transform.size) // 2
    return np.asarray(resized)[margin : margin + transform.size, margin : margin + transform.size]


def as_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image in RGB: transparency over white, 16-bit greys scaled to 8 bits."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        grey = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(grey, 0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        image = Image.alpha_composite(white, over)
    return image.convert("RGB")


def cached_images(
    source: ImageSource,
    rows: np.ndarray,
    transform: Transform,
    cache_dir: pathlib.Path,
    *,
    workers: int | None = None,
    description: str = "images",
    progress: bool = True,
) -> UInt8[np.ndarray, "M S S 3"]:
    """Transformed images of the given rows, decoded once and memory-mapped from then on.

    An entry of the cache is keyed by the content of the images in their order and by the transform, so a
    moved folder finds it again and a changed file does not. It appears when it is complete: a process that
    dies earlier leaves only a ``.partial`` file, which the next build replaces. Two processes that need
    the same entry build it once.

    Args:
      source: the images.
      rows: which of them, in this order.
      transform: from image to square.
      cache_dir: where entries are kept; created if need be.
      workers: threads that read and decode; None: one per core.
      description: what the progress bar says.
      progress: whether it is shown.

    Returns:
      uint8 [rows, size, size, 3], read-only.

    Raises:
      DataError: images that cannot be read, all of them named; a cache folder that cannot be written to,
        or has not enough room, with the size that is needed.
    """
    shape = (len(rows), transform.size, transform.size, 3)
    if not len(rows):
        return np.zeros(shape, np.uint8)

    numbers: list[int] = rows.tolist()

    def for_all(verb: str, work: Callable[[int], Result]) -> list[Result]:
        """Results of work(position) in order, by several threads."""
        names = [source.name(row) for row in numbers]
        title = f"{verb} {description}"
        return _all_or_explain(work, names, workers=workers, description=title, progress=progress)

    key = hashlib.blake2b(CACHE_VERSION, digest_size=16)
    key.update(f"{transform.size} {transform.resize} {len(rows)}".encode())
    for digest in for_all("checking", lambda position: source.digest(numbers[position])):
        key.update(digest)
    path = cache_dir / f"{key.hexdigest()}.npy"
    if not path.exists():
        with _building(path, shape) as partial:
            if partial is not None:
                pixels = np.lib.format.open_memmap(partial, mode="r+")

                def decode(position: int) -> None:
                    pixels[position] = source.read(numbers[position], transform)

                for_all("decoding", decode)
                pixels.flush()
    return np.load(path, mmap_mode="r")


def _all_or_explain(
    work: Callable[[int], Result],
    names: Sequence[str],
    *,
    workers: int | None,
    description: str,
    progress: bool,
) -> list[Result]:
    """work(position) for every named image, in order; all failures together in one DataError."""
    unreadable: dict[int, str] = {}

    def attempt(position: int) -> Any:
        try:
            return work(position)
        except Exception as error:  # decoders raise nearly anything on damaged files
            unreadable[position] = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return None

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            attempts = pool.map(attempt, range(len(names)))
            results = list(
                tqdm(attempts, description, len(names), unit="image", disable=not progress, leave=False)
            )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if unreadable:
        lines = "\n".join(f"  {names[position]}: {unreadable[position]}" for position in sorted(unreadable))
        raise DataError(
            f"{len(unreadable)} of {len(names)} images cannot be read:\n{lines}\n"
            "Replace these files, or take their rows out of the table."
        )
    return results


@contextlib.contextmanager
def _building(path: pathlib.Path, shape: Sequence[int]) -> Iterator[pathlib.Path | None]:
    """An .npy file of the final size that becomes ``path`` when the block ends well, and goes otherwise.

    Yields None where another process has finished the entry meanwhile.
    """
    partial, lock = path.with_suffix(".partial"), path.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(lock):
            try:
                if path.exists():
                    yield None
                    return
                _allocate(partial, shape)
                yield partial
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(_cannot_write(path.parent, shape, error)) from error


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Hold a lock file, one process at a time; the system lets go of it when the process dies."""
    while True:
        with path.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            # Whoever held it before has removed it: then another process may lock a new one by now.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held.fileno()), path.stat()):
                    try:
                        yield
                    finally:
                        path.unlink()
                    return


def _allocate(path: pathlib.Path, shape: Sequence[int]) -> None:
    """An .npy file with all its room reserved.

    Writing through a memory map to a file with holes would kill the process with SIGBUS on a full disk;
    reserving fails with an error instead.
    """
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        os.posix_fallocate(file.fileno(), 0, file.tell() + int(np.prod(shape)))


def _cannot_write(cache_dir: pathlib.Path, shape: Sequence[int], error: OSError) -> str:
    existing = next(folder for folder in (cache_dir, *cache_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**20
    room = (
        f"it needs {np.prod(shape) / 2**20:,.1f} MiB, {free:,.0f} MiB are free; "
        if error.errno in NO_ROOM
        else ""
    )
    return (
        f"the image cache cannot be written to {cache_dir}: {error.strerror}; {room}"
        "set data.cache_dir to a folder with room that you may write to"
    )
