"""Puts a gallery into Milvus, in batches, and goes on where an earlier filling stopped."""

from typing import Any

import numpy as np

from gradrev_jax.errors import ConfigError, DataError, join_names
from gradrev_jax.progress import ProgressBar
from gradrev_jax.serving.engines.engine import EngineGallery, Lengths, check_gallery
from gradrev_jax.serving.engines.milvus import (
    LOAD_SECONDS,
    NAME,
    PROPERTY,
    ROW,
    VECTOR,
    About,
    attribute_field,
    check_same,
    count_rows,
    index_type,
    read_about,
    schema_digest,
)
from gradrev_jax.serving.engines.milvus_client import Connection, connect
from gradrev_jax.serving.engines.places import Place

INDEXES: dict[str, dict[str, Any]] = {"FLAT": {}, "HNSW": {"M": 32, "efConstruction": 200}}
WIDEST = 32_768  # Milvus's limit on the numbers of a vector
LONGEST_NAME = 65_535  # its limit on the bytes of a text
BATCH_SECONDS = 120.0


def fill_milvus(
    place: Place, gallery: EngineGallery, *, index: str, batch_bytes: int, progress: bool
) -> None:
    """Fills a collection; see ``fill_engine``.

    A batch is sent when the one before it was acknowledged, and all have the size that the collection was
    begun with. So whole batches precede what a filling that was interrupted left of its last one, which is
    removed and sent again.
    """
    if index not in INDEXES:
        raise ConfigError(f"index={index!r}: it may be {join_names(list(INDEXES))}", arguments=("index",))
    width = gallery.vectors.shape[1]
    if width > WIDEST:
        raise DataError(f"vectors of {width:,} numbers are wider than Milvus's limit, {WIDEST:,}")
    lengths = check_gallery(gallery)
    names = [_stored_name(name) for name in gallery.names]
    connection = connect(place, create=True)
    try:
        about = read_about(connection)
        if about is None:
            about = _create(connection, gallery, lengths, batch_rows(gallery, batch_bytes))
        check_same(place, about, gallery.schema, gallery.fingerprint)
        if index_type(connection) is None:
            _create_index(connection, index, about.metric)
        connection.call("load_collection", seconds=LOAD_SECONDS)
        if (stored := count_rows(connection)) < about.num_rows:
            _insert(connection, gallery, names, about, stored, progress)
            connection.call("flush", seconds=LOAD_SECONDS)
            stored = count_rows(connection)
        if stored != about.num_rows:
            raise DataError(
                f"{place.text} has {stored:,} rows in place of {about.num_rows:,}: two programs have filled "
                "it at once. Remove the collection, and fill it again",
                arguments=("engine",),
            )
    finally:
        connection.close()


def batch_rows(gallery: EngineGallery, batch_bytes: int) -> int:
    """Returns how many rows a batch may have.

    Args:
      gallery: the gallery.
      batch_bytes: the most bytes of a batch; a row that is larger is a batch of its own.

    Example:
      >>> from gradrev_jax import AttributeSchema
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> vectors, labels = np.zeros((9, 1000), np.float32), np.zeros((9, 1), int)
      >>> gallery = EngineGallery(vectors, 1000, ["a"] * 9, labels, schema, "it")
      >>> batch_rows(gallery, 20_000)
      4
    """
    # The message has 10 bytes at most for a number, with a tag and a length.
    longest = max(len(_stored_name(name).encode()) for name in gallery.names)
    row = 4 * gallery.vectors.shape[1] + longest + 12 * (3 + gallery.schema.num_attributes)
    return max(1, batch_bytes // row)


def _stored_name(name: str) -> str:
    """Returns a name as the engine takes it: valid UTF-8 of a limited length. Searches do not read it."""
    return name.encode(errors="backslashreplace")[:LONGEST_NAME].decode(errors="ignore")


def _create(connection: Connection, gallery: EngineGallery, lengths: Lengths, rows: int) -> About:
    from pymilvus import DataType, MilvusClient

    num_rows, width = gallery.vectors.shape
    about = About(
        gallery.fingerprint,
        schema_digest(gallery.schema),
        num_rows,
        width,
        rows,
        "IP" if lengths.are_equal else "L2",
        gallery.rest_from,
        lengths,
    )
    fields = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    fields.add_field(ROW, DataType.INT64, is_primary=True)
    fields.add_field(NAME, DataType.VARCHAR, max_length=LONGEST_NAME)
    for n, attribute in enumerate(gallery.schema.names):
        fields.add_field(attribute_field(n), DataType.INT32, description=attribute)
    fields.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=width)
    # A gallery does not change once it is whole, and its rows are counted with the consistency Strong.
    connection.call(
        "create_collection",
        schema=fields,
        consistency_level="Bounded",
        properties={PROPERTY: about.to_json()},
        seconds=LOAD_SECONDS,
    )
    return about


def _create_index(connection: Connection, index: str, metric: str) -> None:
    from pymilvus import MilvusClient

    params = MilvusClient.prepare_index_params()
    params.add_index(VECTOR, index_type=index, metric_type=metric, index_name=VECTOR, params=INDEXES[index])
    # Not waited for: nothing is there yet to be indexed, and milvus-lite logs an error when it is asked to.
    connection.call("create_index", params, seconds=LOAD_SECONDS, sync=False)


def _insert(
    connection: Connection,
    gallery: EngineGallery,
    names: list[str],
    about: About,
    stored: int,
    progress: bool,
) -> None:
    """Sends the batches that are missing."""
    start = stored - stored % about.batch_rows
    if stored > start:
        connection.call("delete", filter=f"{ROW} >= {start}", seconds=BATCH_SECONDS)
    fields = [attribute_field(n) for n in range(gallery.schema.num_attributes)]
    with ProgressBar(
        total=about.num_rows, initial=start, desc="filling", unit="image", progress=progress, leave=False
    ) as bar:
        for first in range(start, about.num_rows, about.batch_rows):
            last = min(first + about.batch_rows, about.num_rows)
            vectors = np.ascontiguousarray(gallery.vectors[first:last])
            labels = gallery.labels[first:last].tolist()
            batch = [
                {ROW: row, NAME: names[row], VECTOR: vector, **dict(zip(fields, values, strict=True))}
                for row, vector, values in zip(range(first, last), vectors, labels, strict=True)
            ]
            connection.call("insert", batch, seconds=BATCH_SECONDS)
            bar.update(last - first)
