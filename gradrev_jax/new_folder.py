"""Folders that are there when they are whole, and not before."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from gradrev_jax.errors import UserError


@contextlib.contextmanager
def new_folder(directory: pathlib.Path, error: type[UserError]) -> Iterator[pathlib.Path]:
    """A folder that takes its name when the block ends well, and goes otherwise.

    Args:
      directory: its name; nothing of this name, or an empty folder, may be there.
      error: raised where it cannot be written.

    Example:
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     made = pathlib.Path(parent, "made")
      ...     with new_folder(made, UserError) as folder:
      ...         _ = (folder / "file").write_text("whole")
      ...     (made / "file").read_text()
      'whole'
    """
    new = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        new = pathlib.Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        yield new
        new.chmod(0o755)  # mkdtemp's folders are private
        new.rename(directory)
    except OSError as reason:
        raise error(f"{directory} cannot be written: {reason.strerror or reason}") from reason
    finally:
        if new is not None and new.exists():
            shutil.rmtree(new, ignore_errors=True)
