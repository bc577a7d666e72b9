"""Opens and fills the gallery of an engine, whichever it is."""

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.serving.engines.engine import Engine, EngineGallery
from gradrev_jax.serving.engines.milvus import open_milvus
from gradrev_jax.serving.engines.milvus_client import connect
from gradrev_jax.serving.engines.milvus_filling import fill_milvus
from gradrev_jax.serving.engines.places import parse_place

BATCH_BYTES = 2**24  # 16 MiB; servers refuse messages from 64 MiB on


def open_engine(text: str, *, schema: AttributeSchema, fingerprint: str) -> Engine:
    """Opens a gallery that ``fill_engine`` has put into an engine.

    Args:
      text: where it is, ``milvus:PATH.db`` or ``milvus:http://HOST:PORT``; see ``parse_place``.
      schema: the attributes that it must have.
      fingerprint: the gallery that it must hold.

    Raises:
      ConfigError: ``text`` is no engine, or its packages are not installed.
      DataError: the engine is not reachable, or holds nothing, another gallery, or a part of this one.
    """
    return open_milvus(parse_place(text), schema=schema, fingerprint=fingerprint)


def check_engine(text: str) -> None:
    """Checks that an engine can be filled, before anything long is begun.

    Args:
      text: where it is.

    Raises:
      ConfigError: ``text`` is no engine, or its packages are not installed.
      DataError: the engine is not reachable.
    """
    connect(parse_place(text), create=True).close()


def fill_engine(
    text: str,
    gallery: EngineGallery,
    *,
    index: str = "FLAT",
    batch_bytes: int = BATCH_BYTES,
    progress: bool = True,
) -> None:
    """Puts a gallery into an engine; goes on where an earlier call was interrupted.

    A gallery that is there already costs a look. If all vectors are of one length, as after most
    normalisations, the engine compares products, whose order is then that of the distances.

    Args:
      text: where it is put; an embedded engine's folder is created.
      gallery: the gallery, whose vectors may be memory-mapped: a batch at a time is read.
      index: the engine's index, ``FLAT``, which compares all vectors, or ``HNSW``, which is approximate.
        What was chosen when the filling began remains.
      batch_bytes: the most bytes that are sent at once.
      progress: whether a progress bar is shown.

    Raises:
      ConfigError: ``text`` is no engine, its packages are not installed, or ``index`` is unknown.
      DataError: the engine is not reachable or refuses, holds another gallery, or two programs fill it; or
        the gallery is empty or not finite.
    """
    fill_milvus(parse_place(text), gallery, index=index, batch_bytes=batch_bytes, progress=progress)
