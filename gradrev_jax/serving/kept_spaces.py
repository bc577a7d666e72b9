"""Finds the fitted space of a run in a gallery that is kept, so that another gallery is only encoded."""

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from gradrev_jax.errors import DataError
from gradrev_jax.serving.gallery import ABOUT, FITTED_TO, FOLDER, SPACE, leads_elsewhere
from gradrev_jax.serving.space import SearchSpace, open_space


class KeptSpace(NamedTuple):
    """Represents a fitted space that was kept.

    Attributes:
      space: the space.
      stage: the stage of the checkpoint that it was fitted for.
      step: the number of the checkpoint.
    """

    space: SearchSpace
    stage: str
    step: int


def find_space(directory: pathlib.Path, provenance: Mapping[str, Any]) -> KeptSpace | None:
    """Finds the space that a gallery needs in any kept gallery of its run; None if there is none.

    The galleries may show other parts, or be of an earlier state of the images that nothing is fitted to.

    Args:
      directory: the folder of the run.
      provenance: that of the gallery, see ``gallery.gallery_provenance``.

    Example:
      >>> find_space(pathlib.Path("/no/such/run"), {"fitted_to": "d3673dbf"}) is None
      True
    """
    for path in sorted((directory / FOLDER).glob(f"*/{ABOUT}")):
        # What cannot be read is fitted again.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError, DataError):
            about = json.loads(path.read_text(encoding="utf-8"))
            is_wanted = about["made_of"][FITTED_TO] == provenance[FITTED_TO]
            if is_wanted and not leads_elsewhere(path.parent, directory):
                return KeptSpace(open_space(path.parent / SPACE), about["stage"], about["step"])
    return None
