"""A gallery in Milvus: opened, filtered and searched."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import ConfigError, DataError, EngineError
from gradrev_jax.serving.engines.engine import Candidates, Labels, Lengths
from gradrev_jax.serving.engines.milvus_client import Connection, connect
from gradrev_jax.serving.engines.places import Place

VERSION = 1
PROPERTY = "gradrev_jax.gallery"  # the property of a collection that has its ``About``
ROW, NAME, VECTOR = "row", "name", "vector"  # its fields, beside one per attribute
MOST_CANDIDATES = 16_384  # Milvus's limit on the results of a search
FETCHED_BYTES = 2**25  # of vectors in one answer; half of gRPC's usual limit
LOAD_SECONDS = 600.0  # a cluster reads the gallery into memory
STATE_SECONDS = 1.5  # where a search has failed already
EXACT_INDEXES = ("FLAT",)


class About(NamedTuple):
    """Represents what a collection holds, kept with it.

    Attributes:
      fingerprint: of its gallery.
      schema: the digest of its attributes.
      num_rows: the number of rows that it has when it is whole.
      width: the numbers of a vector.
      batch_rows: the number of rows of each insertion.
      metric: ``IP`` where all vectors are of one length, otherwise ``L2``.
      rest_from: the position from which its numbers belong to no attribute.
      lengths: of its vectors.
    """

    fingerprint: str
    schema: str
    num_rows: int
    width: int
    batch_rows: int
    metric: str
    rest_from: int
    lengths: Lengths

    def to_json(self) -> str:
        """Returns the text that the property holds."""
        return json.dumps({"version": VERSION, **self._asdict(), "lengths": self.lengths._asdict()})


class MilvusEngine:
    """Represents a gallery in a Milvus collection; see ``Engine``.

    Args:
      connection: the connection to its collection, loaded.
      about: what the collection holds.
      index: the type of its index.
    """

    most_candidates = MOST_CANDIDATES

    def __init__(self, connection: Connection, about: About, index: str) -> None:
        self._connection, self._about, self._index = connection, about, index
        self.num_rows, self.rest_from = about.num_rows, about.rest_from
        self.exact = index in EXACT_INDEXES

    def nearest(
        self, query: Float32[np.ndarray, " D"], count: int, *, where: Labels, exclude: Sequence[int]
    ) -> Candidates:
        """Returns the rows with the best scores among those that pass the filters; see ``Engine``."""
        count = min(count, self.num_rows, MOST_CANDIDATES)
        if not all(map(len, where.values())):  # nothing is labelled with none of no values
            return Candidates(np.zeros(0, int), np.zeros((0, self._about.width), np.float32))
        are_few = count * self._about.width * 4 <= FETCHED_BYTES
        (hits,) = self._ask(
            "search",
            data=[query],
            limit=count,
            anns_field=VECTOR,
            filter=filter_expression(where, exclude),
            output_fields=[VECTOR] if are_few else [],
            search_params={"metric_type": self._about.metric, "params": self._search_params(count)},
        )
        rows = np.array([hit[ROW] for hit in hits], int)
        if not are_few:
            return Candidates(rows, self.vectors(rows))
        found = np.array([hit["entity"][VECTOR] for hit in hits], np.float32)
        return Candidates(rows, found.reshape(len(rows), self._about.width))

    def slack(self, query: Float32[np.ndarray, " D"], rest: float) -> float:
        """Returns a bound on how much nearer a row that is no candidate can be; see ``Engine``.

        A sum of D products in float32 errs by at most about D eps / 2 of the lengths' product, whatever the
        order of its additions (Higham, 2002, 3.1). With products in place of distances, a row that is shorter
        than the farthest candidate can be nearer by the difference of the squares.
        """
        terms = (len(query) + 6) * 2.0**-24  # those of the sum, and the query's and the squares' own rounding
        rounding, lengths = terms / (1 - terms), self._about.lengths
        longest = lengths.whole[1]
        size = float(np.linalg.norm(query.astype(np.float64)))
        if self._about.metric == "IP":
            return 4 * rounding * size * longest + lengths.spread(rest)
        if rest != 1:
            raise ConfigError(
                f"{self._connection.place.text} compares vectors of different lengths, by distance, which it "
                f"can only as they are stored: the factor of what belongs to no attribute is 1, not {rest:g}"
            )
        return 2 * rounding * (size + longest) ** 2

    def vectors(self, rows: Int[np.ndarray, " m"]) -> Float32[np.ndarray, "m D"]:
        """Returns the stored vectors of some rows, in the order given; see ``Engine``."""
        at_once = max(1, FETCHED_BYTES // (4 * self._about.width))
        result = np.empty((len(rows), self._about.width), np.float32)
        for start in range(0, len(rows), at_once):
            wanted = rows[start : start + at_once].tolist()
            found = self._ask("get", wanted, output_fields=[ROW, VECTOR])
            by_row = {entry[ROW]: entry[VECTOR] for entry in found}
            if missing := [row for row in wanted if row not in by_row]:
                raise DataError(
                    f"{self._connection.place.text} has lost row {missing[0]} of its gallery; fill it again"
                )
            result[start : start + len(wanted)] = [by_row[row] for row in wanted]
        return result

    def close(self) -> None:
        """Closes the connection; see ``Engine``."""
        self._connection.close()

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Calls a method of the collection, which is loaded again where an engine that restarted has not."""
        try:
            return self._connection.call(method, *arguments, **options)
        except EngineError:
            if not self._is_released():
                raise
        self._connection.call("load_collection", seconds=LOAD_SECONDS)
        return self._connection.call(method, *arguments, **options)

    def _is_released(self) -> bool:
        """Returns whether the engine answers, and says that the collection is not loaded."""
        try:
            state = self._connection.call("get_load_state", seconds=STATE_SECONDS)["state"]
        except EngineError:
            return False
        return bool(state.name == "NotLoad")

    def _search_params(self, count: int) -> dict[str, Any]:
        return {"ef": 2 * count} if self._index.startswith("HNSW") else {}


def open_milvus(place: Place, *, schema: AttributeSchema, fingerprint: str) -> MilvusEngine:
    """Opens a gallery that was filled, and checks that it is the one that is meant.

    Args:
      place: the collection.
      schema: the attributes that it must have.
      fingerprint: the gallery that it must hold.

    Raises:
      ConfigError: the packages are not installed.
      DataError: the engine is not reachable, or the collection is missing, not whole, or another gallery's.
    """
    connection = connect(place)
    try:
        about = read_about(connection)
        if about is None:
            raise DataError(f"{place.text} has no gallery yet; fill it with index.py", arguments=("engine",))
        check_same(place, about, schema, fingerprint)
        index = index_type(connection)
        if index is not None:
            connection.call("load_collection", seconds=LOAD_SECONDS)
        if index is None or (stored := count_rows(connection)) < about.num_rows:
            stored = 0 if index is None else stored
            raise DataError(
                f"{place.text} holds {stored:,} of the {about.num_rows:,} rows of its gallery; run index.py "
                "again, which goes on from there",
                arguments=("engine",),
            )
        return MilvusEngine(connection, about, index)
    except BaseException:
        connection.close()
        raise


def read_about(connection: Connection) -> About | None:
    """Returns the description of the collection; None if there is none.

    Args:
      connection: the connection to it.

    Raises:
      DataError: it was not made by ``fill_engine``, or by another version.
    """
    if not connection.call("has_collection"):
        return None
    properties = connection.call("describe_collection").get("properties", {})
    try:
        about = json.loads(properties[PROPERTY])
        version = about.pop("version")
        lengths = Lengths(**{name: tuple(pair) for name, pair in about["lengths"].items()})
        about = About(**{**about, "lengths": lengths})
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{connection.place.text} is a collection of something else; add #NAME for one of its own",
            arguments=("engine",),
        ) from error
    if version != VERSION:
        raise DataError(f"{connection.place.text} is of version {version}, not {VERSION}; fill another")
    return about


def check_same(place: Place, about: About, schema: AttributeSchema, fingerprint: str) -> None:
    """Raises unless a collection is that of a gallery.

    Args:
      place: where it is.
      about: what it holds.
      schema: the attributes of the gallery.
      fingerprint: that of the gallery.

    Raises:
      DataError: it holds another one.
    """
    for what, there, here in (
        ("with other attributes or values", about.schema, schema_digest(schema)),
        ("of another run, checkpoint, catalogue or way of comparing", about.fingerprint, fingerprint),
    ):
        if there != here:
            raise DataError(
                f"{place.text} holds a gallery {what}; add #NAME for a collection of its own, and fill it "
                "with index.py",
                arguments=("engine",),
            )


def index_type(connection: Connection) -> str | None:
    """Returns the type of the index of the vectors; None if there is none.

    Args:
      connection: the connection to the collection.
    """
    if VECTOR not in connection.call("list_indexes"):
        return None
    return str(connection.call("describe_index", VECTOR)["index_type"])


def count_rows(connection: Connection) -> int:
    """Returns the number of rows that the collection has, those just written among them.

    Args:
      connection: the connection to the collection, loaded.
    """
    (answer,) = connection.call(
        "query", filter="", output_fields=["count(*)"], consistency_level="Strong", seconds=LOAD_SECONDS
    )
    return int(answer["count(*)"])


def attribute_field(n: int) -> str:
    """Returns the name of the field of an attribute, which does not depend on what people call it."""
    return f"attribute_{n}"


def filter_expression(where: Labels, exclude: Sequence[int]) -> str:
    """Returns Milvus's expression of a filter. It is made of numbers: nobody's words become part of it.

    Args:
      where: the labels that a row may have, by the attribute's position.
      exclude: rows that are left out.

    Example:
      >>> filter_expression({1: [0, 2]}, exclude=[7])
      'attribute_1 in [0, 2] and row not in [7]'
    """
    parts = [f"{attribute_field(n)} in {[int(label) for label in labels]}" for n, labels in where.items()]
    if len(exclude):
        parts.append(f"{ROW} not in {[int(row) for row in exclude]}")
    return " and ".join(parts)


def schema_digest(schema: AttributeSchema) -> str:
    """Returns a digest of the names and values of the attributes, in their order."""
    return hashlib.blake2b(json.dumps([schema.names, schema.values]).encode(), digest_size=16).hexdigest()
