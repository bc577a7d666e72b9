"""Fetches models from the hub of the package huggingface_hub, and publishes them there."""

import os
import pathlib
import re
from typing import Any

from gradrev_jax.errors import ConfigError, WorkdirError, first_line
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs import workdir
from gradrev_jax.runs.model_file import MODEL_FILE, holds_model, read_checkpoint

PREFIX = "hub:"
CARD = "README.md"
PICTURES, PHOTOGRAPHS = ("hit_rate.png", "cross_accuracy.png"), ("retrieved.png",)
# What is fetched, and what is published; what else lies in the folder of a model is of one machine.
READ_FILES = (MODEL_FILE, workdir.CONFIG, workdir.SCHEMA, workdir.VECTORS)
FILES = (*READ_FILES, CARD, *PICTURES, *PHOTOGRAPHS)
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
REVISION = re.compile(r"[A-Za-z0-9][\w./-]*")


class _NoBar(ProgressBar):
    """A progress bar that is not shown; the hub's package takes a class."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "progress": False})


def locate(where: str | os.PathLike[str], *, progress: bool = True) -> pathlib.Path:
    """Returns the folder of a run or a model, which is fetched first if it is on the hub.

    Args:
      where: a folder, or ``hub:NAME``, or ``hub:NAME@REVISION``.
      progress: whether progress bars are shown.

    Raises:
      UserError: see ``fetch_model``.

    Example:
      >>> locate("runs/mine").as_posix()
      'runs/mine'
    """
    if isinstance(where, str) and where.startswith(PREFIX):
        return fetch_model(where, progress=progress)
    return pathlib.Path(where)


def name_of(directory: pathlib.Path) -> str:
    """Returns the name of a run or a model, for people; of one that was fetched, its name on the hub.

    Args:
      directory: its folder.

    Example:
      >>> name_of(pathlib.Path("runs/mine")), name_of(pathlib.Path("models--me--dresses/snapshots/4d7a"))
      ('mine', 'me/dresses')
    """
    folder = directory.resolve()
    if folder.parent.name == "snapshots" and (cached := folder.parents[1].name).startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/")
    return folder.name


def parse_hub_name(where: str) -> tuple[str, str | None]:
    """Returns the name of a model on the hub, and its revision; None: the newest.

    Args:
      where: ``hub:NAME`` or ``hub:NAME@REVISION``.

    Raises:
      ConfigError: it is no such name.

    Example:
      >>> parse_hub_name("hub:someone/dresses@v1")
      ('someone/dresses', 'v1')
    """
    name, separator, revision = where.removeprefix(PREFIX).partition("@")
    is_revision = bool(REVISION.fullmatch(revision)) and ".." not in revision
    if not NAME.fullmatch(name) or ".." in name or (separator and not is_revision):
        raise ConfigError(
            f"{where!r} names no model of the hub; give hub:OWNER/NAME or hub:OWNER/NAME@REVISION"
        )
    return name, revision or None


def fetch_model(where: str, *, progress: bool = True) -> pathlib.Path:
    """Fetches a model from the hub, unless it was fetched before; only the files that are read.

    Args:
      where: ``hub:NAME`` or ``hub:NAME@REVISION``: a branch, a tag or a commit.
      progress: whether progress bars are shown.

    Returns:
      The folder of the model, in the cache of the hub's package.

    Raises:
      UserError: the name is no name, the package is not installed, the hub cannot be reached, or there is no
        such model.
    """
    name, revision = parse_hub_name(where)
    hub = _import_hub()
    try:
        folder = hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(READ_FILES),
            library_name="gradrev_jax",
            tqdm_class=ProgressBar if progress else _NoBar,
        )
    except Exception as error:  # of several libraries, by what is wrong
        raise WorkdirError(f"{where} cannot be fetched: {_reason(error)}") from error
    directory = pathlib.Path(folder)
    if not holds_model(directory):
        raise WorkdirError(f"{where} is no model of gradrev_jax: it has no {MODEL_FILE}")
    return directory


def push_model(directory: str | os.PathLike[str], name: str, *, private: bool = False) -> str:
    """Publishes a model on the hub; files beside it, such as reports and encoded galleries, stay here.

    Args:
      directory: the folder of the model, see ``export_model``.
      name: its name on the hub, OWNER/NAME; it is made if there is none.
      private: whether a new one can be read by its owner alone.

    Returns:
      The address of the commit.

    Raises:
      UserError: the folder holds no model, the package is not installed, or the hub refuses it.
    """
    directory = pathlib.Path(directory)
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be a name on the hub; give OWNER/NAME", arguments=("push",))
    if not holds_model(directory):
        raise WorkdirError(f"{directory} holds no model to share; export one first")
    workdir.read_config(directory)
    workdir.read_schema(directory)
    read_checkpoint(directory)
    interface = _import_hub().HfApi(library_name="gradrev_jax")
    try:
        interface.create_repo(name, private=private, exist_ok=True)
        made = interface.upload_folder(
            repo_id=name, folder_path=directory, allow_patterns=list(FILES), commit_message="Add the model"
        )
    except Exception as error:
        raise WorkdirError(f"{name} cannot be published: {_reason(error)}") from error
    return str(made.commit_url)


def _reason(error: Exception) -> str:
    """Returns in a line why the hub did not do as it was asked, and what to do."""
    reasons = {
        "RepositoryNotFoundError": "there is no such name, or it is not for you; check it, or sign in with "
        "hf auth login",
        "GatedRepoError": "its owner gives it to those who ask; ask there, and sign in with hf auth login",
        "RevisionNotFoundError": "it has no such revision; give a branch, a tag or a whole commit",
    }
    otherwise = f"{first_line(error)}; check the network, and that you are signed in (hf auth login)"
    return reasons.get(type(error).__name__, otherwise)


def _import_hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(
            f"the hub needs the package huggingface_hub, but: {error}; install it with pip install "
            "'gradrev_jax[hub]'"
        ) from error
    return huggingface_hub
