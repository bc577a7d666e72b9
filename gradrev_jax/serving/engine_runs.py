"""A run's gallery in a vector engine: put there, opened and searched."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gradrev_jax.errors import ConfigError
from gradrev_jax.runs import workdir
from gradrev_jax.search.block_comparison import BlockComparison
from gradrev_jax.search.item_search import ItemEdit, ItemGallery
from gradrev_jax.serving.engines.engine import Engine, EngineGallery, Labels
from gradrev_jax.serving.engines.exact import EngineNeighbors, exact_search
from gradrev_jax.serving.engines.opening import check_engine, fill_engine, open_engine
from gradrev_jax.serving.engines.places import parse_place
from gradrev_jax.serving.engines.vectors import engine_gallery
from gradrev_jax.serving.hub import locate
from gradrev_jax.serving.opening import ServedRun, open_served


def index_run(
    where: str | os.PathLike[str],
    engine: str,
    *,
    parts: Sequence[str] = ("test",),
    step: str = "best",
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    index: str = "FLAT",
    progress: bool = True,
) -> int:
    """Puts a run's gallery into a vector engine; goes on where an earlier call was interrupted.

    Args:
      where: the folder of a run or of a model, as for ``Retriever.open``.
      engine: the engine, see ``parse_place``.
      parts: the parts of the run's catalogue that are searched.
      step: the checkpoint, as for ``Retriever.open``.
      protocol: fields of ``config.protocol`` to override, as for ``Retriever.open``.
      data: fields of ``config.data`` to override.
      index: the engine's index, see ``fill_engine``.
      progress: whether progress bars are shown.

    Returns:
      The number of garments in the engine.

    Raises:
      UserError: the folder is not a run, its catalogue cannot be read, or the engine cannot be filled.

    Example::

      index_run("runs/mine", "milvus:mine.db")
      shop = Retriever.open("runs/mine", engine="milvus:mine.db")
    """
    parse_place(engine)
    directory = locate(where, progress=progress)
    workdir.read_config(directory)  # before a folder is made for the engine
    check_engine(engine)
    run = open_served(
        directory,
        parts=parts,
        step=step,
        protocol=protocol or {},
        data=data or {},
        progress=progress,
    )
    fill_engine(engine, gallery_of(run), index=index, progress=progress)
    return len(run.rows)


def gallery_of(run: ServedRun) -> EngineGallery:
    """Returns the gallery of a run as an engine takes it.

    Args:
      run: the opened run.
    """
    blocks, space = run.gallery.blocks, run.gallery.space
    schema, way = space.schema, space.way
    comparison = BlockComparison.of_blocks(blocks.shape[1], schema.num_attributes, way.normalize, way.weights)
    names = [run.catalogue.images.name(row) for row in run.rows.tolist()]
    return engine_gallery(blocks, comparison, names, run.catalogue.labels[run.rows], schema, kept=run.kept)


def open_engine_of(run: ServedRun, text: str) -> Engine:
    """Opens the engine that holds the gallery of a run.

    Args:
      run: the opened run.
      text: the engine, see ``parse_place``.

    Raises:
      ConfigError: ``text`` is no engine, or its packages are not installed.
      DataError: the engine is not reachable, or holds nothing, another gallery, or a part of this one.
    """
    gallery = gallery_of(run)
    return open_engine(text, schema=gallery.schema, fingerprint=gallery.fingerprint)


def search_in_engine(
    engine: Engine,
    gallery: ItemGallery,
    item: Float[np.ndarray, "P w"],
    edit: ItemEdit,
    k: int,
    *,
    rest: float,
    where: Labels,
    exclude: Sequence[int],
) -> EngineNeighbors:
    """Finds the rows nearest to an edited item in an engine, as ``ItemGallery.search`` does in this process.

    Args:
      engine: the engine.
      gallery: how the item is edited and compared; the gallery's own rows are not read.
      item: the item, [P, w].
      edit: the edit.
      k: the number of rows.
      rest: the factor of the weight of what belongs to no attribute.
      where: the labels that a row may have.
      exclude: rows that are left out.

    Raises:
      ConfigError: k is more than the engine returns.
      DataError: the engine does not answer, or refuses.
    """
    k = min(k, engine.num_rows)
    if k > engine.most_candidates:
        raise ConfigError(f"k must be at most {engine.most_candidates:,}, which the engine returns; got {k}")
    edited = gallery.edit(item, edit)[None]
    query = gallery.comparison.with_rest(rest).apply(edited).reshape(-1)
    return exact_search(engine, query, k, rest=rest, where=where, exclude=exclude)
