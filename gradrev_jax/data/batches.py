"""Decides which examples make up each batch, from the seed and the step alone: resuming needs no state."""

import functools

import numpy as np
from jaxtyping import Int

from gradrev_jax.errors import ConfigError


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns the number of full batches in one pass over the examples.

    The remainder is left out; the next pass has another order, so other examples are left out then.

    Args:
      num_examples: the number of images or triplets.
      batch_size: the number of examples per batch.

    Raises:
      ConfigError: there are fewer examples than one batch needs.

    Example:
      >>> steps_per_epoch(100, 32)
      3
    """
    if not 1 <= batch_size <= num_examples:
        raise ConfigError(
            f"`batch_size` {batch_size} does not fit {num_examples} training examples; set it between 1 and "
            f"{num_examples}",
            arguments=("batch_size",),
        )
    return num_examples // batch_size


def batch_rows(seed: int, step: int, *, num_examples: int, batch_size: int) -> Int[np.ndarray, " B"]:
    """Returns the rows of the examples in the batch of a step; no row comes twice within an epoch.

    Args:
      seed: the seed of the order.
      step: the step, counted from 0.
      num_examples: the number of examples.
      batch_size: the number of examples per batch.

    Raises:
      ConfigError: there are fewer examples than one batch needs.

    Example:
      >>> rows = [batch_rows(0, step, num_examples=6, batch_size=2) for step in range(3)]
      >>> sorted(np.concatenate(rows).tolist())
      [0, 1, 2, 3, 4, 5]
    """
    epoch, position = divmod(step, steps_per_epoch(num_examples, batch_size))
    return _epoch_order(seed, epoch, num_examples)[position * batch_size : (position + 1) * batch_size]


@functools.lru_cache(maxsize=2)  # the steps of one epoch share its order
def _epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(num_examples)
    order.flags.writeable = False
    return order
