"""Show the cache of decoded images, or clear it: gradrev-image-cache [--clear].

Entries that a run has open stay. Whatever is removed is decoded again when a run needs it.
"""

import pathlib
import time

from absl import flags

from gradrev_commands import cli
from gradrev_jax.data.images.cache_entries import Entry, describe, entries, remove
from gradrev_jax.errors import DataError
from gradrev_jax.runs.pixels import cache_folder

DAY = 24 * 60 * 60  # seconds


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


def main() -> None:
    """Prints what the cache holds, after removing what the flags ask for."""
    folder = flags.DEFINE_string(
        "cache_dir", "", "The cache's folder; unset: what data.cache_dir is by default."
    )
    clear = flags.DEFINE_boolean("clear", False, "Whether entries are removed.")
    unused_days = flags.DEFINE_float(
        "unused_days", 0.0, "Remove only what was not used for so many days.", lower_bound=0
    )

    def work() -> None:
        print(report(cache_folder(folder.value), clear=clear.value, unused_days=unused_days.value))

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
