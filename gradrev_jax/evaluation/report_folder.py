"""Replaces the folder of a report as a whole, and writes its pictures."""

import contextlib
import pathlib
from collections.abc import Iterator

from matplotlib.figure import Figure

from gradrev_jax.errors import WorkdirError
from gradrev_jax.files import temporary_sibling

DPI = 110


@contextlib.contextmanager
def replace_folder(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Replaces a folder atomically: yields a temporary sibling, then renames it if the block succeeds.

    Args:
      directory: the folder to replace; it is untouched if the block fails.

    Yields:
      The folder to write to.

    Raises:
      WorkdirError: the folder cannot be written to.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with temporary_sibling(directory, folder=True) as new:
            yield new
            new.chmod(0o755)  # mkdtemp's folders are private
            with temporary_sibling(directory, folder=True) as old:
                if directory.exists():
                    directory.rename(old)
                try:
                    new.rename(directory)
                except OSError:
                    if any(old.iterdir()):
                        old.rename(directory)
                    raise
    except OSError as error:
        raise WorkdirError(f"{directory} cannot be written: {error.strerror or error}") from error


def write_figure(path: pathlib.Path, figure: Figure) -> None:
    """Lays a figure out and writes it as a picture.

    Matplotlib goes through all of a figure that has a layout twice. Laid out before, it is drawn once, and
    its pixels are the same.

    Args:
      path: the file of the picture.
      figure: the figure, which keeps the places that its axes get here.
    """
    figure.set_dpi(DPI)
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(path, dpi=DPI)
