"""Which images make up which batch: a pure function of (seed, step), so resuming needs no state."""

import functools

import numpy as np
from jaxtyping import Int

from gradrev_jax.errors import ConfigError


def steps_per_epoch(
    num_images: int, batch_size: int, *, of: str = "training images", section: str = "train"
) -> int:
    """Full batches in one pass; the remainder is left to the next pass's other order.

    Args:
      num_images: how many there are.
      batch_size: how many a batch takes.
      of: what they are, for the message.
      section: of the config that has the batch size, for the message.

    Raises:
      ConfigError: fewer images than one batch holds.

    Example:
      >>> steps_per_epoch(100, 32)
      3
    """
    if not 1 <= batch_size <= num_images:
        raise ConfigError(
            f"{section}.batch_size {batch_size} does not fit {num_images} {of}; "
            f"set it between 1 and {num_images}"
        )
    return num_images // batch_size


def batch_rows(seed: int, step: int, *, num_images: int, batch_size: int) -> Int[np.ndarray, " B"]:
    """Rows of the images in the batch of a step (counted from 0); no row twice within an epoch.

    Raises:
      ConfigError: fewer images than one batch holds.

    Example:
      >>> rows = [batch_rows(0, step, num_images=6, batch_size=2) for step in range(3)]
      >>> sorted(np.concatenate(rows).tolist())
      [0, 1, 2, 3, 4, 5]
    """
    epoch, position = divmod(step, steps_per_epoch(num_images, batch_size))
    return _epoch_order(seed, epoch, num_images)[position * batch_size : (position + 1) * batch_size]


@functools.lru_cache(maxsize=2)  # the steps of one epoch share its order
def _epoch_order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(num_images)
    order.flags.writeable = False
    return order
