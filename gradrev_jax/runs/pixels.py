"""Opens the pixels of a run's catalogue, decoded and cached as its config says."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np
from ml_collections import ConfigDict

from gradrev_jax.data.catalogue import Catalogue, Transform
from gradrev_jax.data.images.cache import cached_images
from gradrev_jax.errors import ConfigError, DataError, naming
from gradrev_jax.files import expand

GIB = 2**30  # bytes


def open_images(catalogue: Catalogue, part: str, config: ConfigDict, *, progress: bool = True) -> np.ndarray:
    """Returns the pixels of one part, uint8 [rows, S, S, 3], decoded on first use and memory-mapped then."""
    with naming("data.{}"):
        return cached_images(
            catalogue.images,
            catalogue.parts[part],
            Transform.for_part(part, config.data.image_size, config.data.train_resize),
            cache_folder(config.data.cache_dir),
            limit=cache_limit(config),
            workers=config.data.workers or None,
            description=part,
            progress=progress,
        )


def open_parts(
    catalogue: Catalogue, parts: Iterable[str], config: ConfigDict, *, progress: bool = True
) -> dict[str, np.ndarray]:
    """Returns the pixels of several parts, see ``open_images``.

    Raises:
      DataError: images that cannot be read, those of all the parts.
    """
    images, problems = {}, list[str]()
    for part in dict.fromkeys(parts):
        try:
            images[part] = open_images(catalogue, part, config, progress=progress)
        except DataError as error:
            problems.append(f"{part} part: {error}" if len(catalogue.parts[part]) else str(error))
    if problems:
        raise DataError("\n".join(problems))
    return images


def cache_limit(config: ConfigDict) -> int | None:
    """Returns the largest size of the image cache in bytes; None: no limit."""
    return round(config.data.cache_limit * GIB) or None


def cache_folder(given: str) -> pathlib.Path:
    """Returns the folder where decoded images are kept.

    Args:
      given: the folder, as data.cache_dir has it; empty: gradrev_jax in the user's cache folder.

    Raises:
      ConfigError: the user has no home folder, as in some containers, and the path needs one.

    Example:
      >>> str(cache_folder("/scratch/images"))
      '/scratch/images'
    """
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "gradrev_jax"
    if given:
        return expand(given, "data.cache_dir")
    try:
        return default.expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"there is no home folder for the image cache, {default}: set data.cache_dir, or one of the "
            "environment variables XDG_CACHE_HOME and HOME"
        ) from error
