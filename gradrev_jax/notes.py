"""Tells the user what was recognised and decided on the way, where that is no error."""

import sys

from tqdm import tqdm

from gradrev_jax import processes


def say(note: str) -> None:
    """Prints a note as one line on stderr, from the first of several processes alone.

    Args:
      note: what was recognised, how it is read, and the option that decides otherwise.
    """
    if processes.is_first():
        tqdm.write(f"note: {note}", file=sys.stderr)  # above a progress bar
