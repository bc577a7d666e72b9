"""Threads that read or decode the images of any source, and name all that they cannot read."""

import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from gradrev_jax.core.workers import NUM_WORKERS
from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.errors import DataError, UserError, join_lines
from gradrev_jax.progress import ProgressBar, tell

Result = TypeVar("Result")
CHUNK = 16  # images that a thread is given at once: of small ones, each costs less than handing it over


@dataclasses.dataclass(frozen=True)
class ImagePool:
    """Threads that work on some images of a source.

    Attributes:
      source: the images.
      rows: the rows of the images, in their order.
      workers: the number of threads; None: one per core.
      description: the text of the progress bar.
      progress: whether the progress bar is shown.
      total: the number of images that these were taken of, which a message counts; None: these are all.
    """

    source: ImageSource
    rows: list[int]
    workers: int | None
    description: str
    progress: bool
    total: int | None = None

    def call(self, verb: str, work: Callable[[int, int], Result]) -> list[Result]:
        """Returns ``work(position, row)`` for every image, in order.

        Args:
          verb: the name of the work in the progress bar.
          work: the function.

        Raises:
          DataError: the work failed for some images; all failures are counted.
        """
        faults: dict[int, str] = {}
        arguments: dict[str, None] = {}

        def attempt(position: int) -> Any:
            try:
                return work(position, self.rows[position])
            except Exception as error:  # decoders raise nearly anything on damaged files
                if isinstance(error, UserError):
                    arguments.update(dict.fromkeys(error.arguments))
                faults[position] = getattr(error, "strerror", None) or str(error) or type(error).__name__
                return None

        count, workers = len(self.rows), self.workers or NUM_WORKERS
        with ThreadPoolExecutor(workers) as pool:
            try:
                size = min(CHUNK, max(1, count // (4 * workers)))
                attempts = pool.map(
                    lambda start: [attempt(position) for position in range(start, min(start + size, count))],
                    range(0, count, size),
                )
                title = f"{verb} {self.description}"
                bar = ProgressBar(
                    itertools.chain.from_iterable(attempts),
                    title,
                    count,
                    unit="image",
                    progress=self.progress,
                    leave=False,
                )
                results = list(bar)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if faults:
            lines = [
                f"{_one_line(self.source.name(self.rows[position]))}: {faults[position]}"
                for position in sorted(faults)
            ]
            raise DataError(
                f"{len(lines)} of {self.total or count} images cannot be read:\n{join_lines(lines)}\n"
                "Replace these files, or take them out of the table, the lists or the folder that has them.",
                arguments=tuple(arguments),
            )
        return results

    def take(self, positions: Int[np.ndarray, " C"]) -> "ImagePool":
        """Returns a pool of some of the images.

        Args:
          positions: the positions of the images in this pool.
        """
        rows = [self.rows[position] for position in positions.tolist()]
        return dataclasses.replace(self, rows=rows, total=self.total or len(self.rows))

    def note(self, text: str) -> None:
        """Prints a line on stderr, above the progress bars, where these are shown.

        Args:
          text: the line.
        """
        if self.progress:
            tell(f"note: {text}")


class DecodedImages:
    """Images that are decoded when they are indexed, batch by batch; nothing is kept (see ``Rows``).

    Args:
      pool: the images.
      transform: the transform from an image to a square.
    """

    def __init__(self, pool: ImagePool, transform: Transform) -> None:
        self._pool, self._transform = pool, transform
        self.shape = (len(pool.rows), transform.size, transform.size, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> UInt8[np.ndarray, "b S S 3"]:
        """Decodes consecutive images.

        Raises:
          DataError: some cannot be read; those of all the images are named, not of these alone.
        """
        positions = np.arange(*rows.indices(len(self)))
        pixels = np.zeros((len(positions), *self.shape[1:]), self.dtype)

        def decode(position: int, row: int) -> None:
            pixels[position] = self._pool.source.read(row, self._transform)

        try:
            dataclasses.replace(self._pool.take(positions), progress=False).call("decoding", decode)
        except DataError:
            self._pool.call("checking", lambda _, row: self._pool.source.read(row, self._transform).shape)
            raise
        return pixels


def _one_line(name: str) -> str:
    """Returns a name, quoted if it holds a line break or other unprintable characters."""
    return name if name.isprintable() else repr(name)
