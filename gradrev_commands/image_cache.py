"""Lists the cache of decoded images, or clears it: gradrev-image-cache [--clear].

Entries that a run has open are kept. Removed images are decoded again when a run needs them.
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
    """Lists the entries of a cache, the least recently used first, and their total size.

    Args:
      folder: the folder of the cache.
      clear: whether entries that no process has open are removed first.
      unused_days: the number of days without use after which entries are removed.

    Raises:
      DataError: the folder cannot be read, or an entry cannot be removed.

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
            lines.append(f"removed {_total(removed)}" + (f"; {in_use} in use" if in_use else ""))
        there = entries(folder)
    except OSError as error:
        raise DataError(f"the image cache {folder} cannot be used: {error.strerror}") from error
    return "\n".join([*lines, *map(_line, there), f"{folder} has {_total(there)}"])


def _line(entry: Entry) -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    return f"last used {used}  {_size(entry.size):>11}  {describe(entry):<40}  {entry.path.name}"


def _total(counted: list[Entry]) -> str:
    count = len(counted)
    return f"{count} {'entry' if count == 1 else 'entries'}, {_size(sum(entry.size for entry in counted))}"


def _size(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def main() -> None:
    """Removes the entries that the flags select, and lists the rest."""
    folder = flags.DEFINE_string(
        "cache_dir", "", "Folder of the cache; unset: the default of data.cache_dir."
    )
    clear = flags.DEFINE_boolean("clear", False, "Whether to remove entries.")
    unused_days = flags.DEFINE_float(
        "unused_days", 0.0, "Remove only entries that were not used for this many days.", lower_bound=0
    )

    def work() -> None:
        print(report(cache_folder(folder.value), clear=clear.value, unused_days=unused_days.value))

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
