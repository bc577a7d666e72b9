"""Pictures of gallery images as browsers load them: encoded once, kept within bounded memory."""

import logging
from typing import NamedTuple

from gradrev_jax.errors import UserError
from gradrev_jax.search.recent import Recent
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.refusals import Refused
from gradrev_jax.serving.web.shop import Shop
from gradrev_jax.serving.web.static_files import etag_of

logger = logging.getLogger(__name__)


class Picture(NamedTuple):
    """A JPEG and its tag."""

    content: bytes
    etag: str


class Pictures:
    """Holds encoded pictures, the most recently used ones.

    Args:
      shop: the retriever whose pictures they are.
      limits: the memory that they may take.
    """

    def __init__(self, shop: Shop, limits: Limits) -> None:
        self._shop = shop
        self._kept = Recent[tuple[int, int], Picture](
            limits.picture_bytes, lambda picture: len(picture.content)
        )

    def kept(self, row: int, size: int) -> Picture | None:
        """Returns a picture if it is at hand."""
        return self._kept.get((row, size))

    def make(self, row: int, size: int) -> Picture:
        """Encodes a picture, and keeps it.

        Raises:
          Refused: the catalogue's image cannot be read; the log, not the client, is told where it is.
        """
        try:
            content = self._shop.picture(row, size)
        except (UserError, OSError, ValueError) as error:
            logger.error(  # which is logged at every --verbosity
                "the picture of item %d cannot be read: %s", row, error
            )
            raise Refused(f"the picture of item {row} cannot be read", 404) from error
        picture = Picture(content, etag_of(content))
        self._kept.put((row, size), picture)
        return picture
