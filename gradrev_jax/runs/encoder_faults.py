"""Says what to do about an encoder whose features cannot be compared."""

import contextlib
from collections.abc import Iterator

from gradrev_jax.errors import DataError
from gradrev_jax.search.products import NotComparableError


@contextlib.contextmanager
def blaming_encoder() -> Iterator[None]:
    """Turns features that cannot be compared into an error of the encoder that computed them.

    Raises:
      DataError: the block raised ``NotComparableError``.
    """
    try:
        yield
    except NotComparableError as error:
        raise DataError(
            f"{error}: the encoder has diverged, or parts of it have died; evaluate another of its "
            "checkpoints, or train again with a lower `learning_rate` or with `clip_norm`",
            arguments=("learning_rate", "clip_norm"),
        ) from error
