"""Show the cache of decoded images, or clear it: python -m gradrev_jax.image_cache [--clear].

Entries that a run has open stay. Whatever is removed is decoded again when a run needs it.
"""

import pathlib
import time

from absl import flags

from gradrev_jax import cli
from gradrev_jax.data.cache_entries import Entry, describe, entries, remove
from gradrev_jax.errors import DataError
from gradrev_jax.run_images import cache_folder

DAY = 24 * 60 * 60  # seconds


def main() -> None:
    """Print what the cache has, having removed what is asked for."""
    values = flags.FLAGS
    print(report(cache_folder(values.cache_dir), clear=values.clear, unused_days=values.unused_days))


def report(folder: pathlib.Path, *, clear: bool = False, unused_days: float = 0.0) -> str:
    """Lists the entries of a cache, those unused for longest first, and their sum.

    Args:
      folder: the cache.
      clear: whether entries that no process has open are removed first.
      unused_days: removes only what was not used for so many days.

    Raises:
      DataError: the folder cannot be read, or an entry not be removed.

    Example:
      >>> report(pathlib.Path("/no/such/folder"))
      '/no/such/folder has 0 entries, 0.0 MiB'
    """
    lines = []
    try:
        if clear:
            unused = [entry for entry in entries(folder) if entry.used <= time.time() - DAY * unused_days]
            removed = [entry for entry in unused if remove(entry)]
            in_use = len(unused) - len(removed)
            lines.append(f"removed {_sum(removed)}" + (f"; {in_use} in use" if in_use else ""))
        there = entries(folder)
    except OSError as error:
        raise DataError(f"the image cache {folder} cannot be used: {error.strerror}") from error
    return "\n".join([*lines, *map(_line, there), f"{folder} has {_sum(there)}"])


def _line(entry: Entry) -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    return f"last used {used}  {_size(entry.size):>11}  {describe(entry):<40}  {entry.path.name}"


def _sum(of_entries: list[Entry]) -> str:
    count = len(of_entries)
    return f"{count} {'entry' if count == 1 else 'entries'}, {_size(sum(entry.size for entry in of_entries))}"


def _size(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


if __name__ == "__main__":
    flags.DEFINE_string("cache_dir", "", "The cache's folder; unset: what data.cache_dir is by default.")
    flags.DEFINE_boolean("clear", False, "Whether entries are removed.")
    flags.DEFINE_float("unused_days", 0.0, "Remove only what was not used for so many days.", lower_bound=0)
    cli.run(main)
