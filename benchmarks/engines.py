"""Times searches in this process beside those of a vector engine, milvus-lite; all are exact.

    python -m benchmarks.engines

Random features of Shopping100k's sizes: one centre per value that an image has, plus noise. Each query edits
another image, and is answered alone, as a person's is. In this process, ``ManipulationIndex`` answers, and
``ItemGallery``, with and without a filter of one attribute: the first search with an item, and one more edit
of it. The engine answers in a process of its own, whose memory is measured; it holds the gallery on disk, and
its vectors in memory. Every result of the engine is compared with that of this process.
"""

import argparse
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from benchmarks.evaluation import random_evaluation
from benchmarks.recording import parse_flags, record
from benchmarks.resident_memory import resident
from benchmarks.search import spread, timed
from gradrev_jax import AttributeSchema, ManipulationIndex, class_prototypes
from gradrev_jax.progress import ProgressBar
from gradrev_jax.search.block_comparison import BlockComparison
from gradrev_jax.search.item_search import ItemEdit, ItemGallery
from gradrev_jax.serving.engines.exact import exact_search
from gradrev_jax.serving.engines.opening import fill_engine, open_engine
from gradrev_jax.serving.engines.vectors import engine_gallery

ROOT = pathlib.Path(__file__).parents[1]
FULL = {"gallery": 20_000, "dim": 340, "queries": 1000, "k": 20}
TINY = {"gallery": 300, "dim": 4, "queries": 6, "k": 5}
SCHEMA, QUERIES, FOUND, DATABASE = "schema.json", "queries.npz", "found.npz", "gallery.db"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--queries", type=int, help="number of queries; unset: 1,000")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    parser.add_argument("--folder", type=pathlib.Path, help="search in this folder's engine, and print")
    options = parse_flags(parser, arguments)
    if options.folder is not None:
        measured = search_engine(options.folder)
        print(json.dumps(measured))
        return measured
    with tempfile.TemporaryDirectory() as folder:
        sizes = TINY if options.tiny else FULL
        if options.queries is not None:
            sizes = {**sizes, "queries": options.queries}
        result = measure(pathlib.Path(folder), sizes)
    record(options.out / "engines.json", result, about=options.about)
    return result


def measure(folder: pathlib.Path, sizes: dict[str, int]) -> dict[str, Any]:
    """Searches in this process, fills an engine, and searches there in another process."""
    k, count = sizes["k"], sizes["queries"]
    features, labels, queries, schema = random_evaluation(sizes["gallery"], count, count, sizes["dim"])
    memory = np.asarray(class_prototypes(features, labels, schema))
    filtered = np.random.default_rng(1).integers(0, schema.num_attributes, count)
    result: dict[str, Any] = {"sizes": {**sizes, "attributes": schema.num_attributes}}

    index = ManipulationIndex.build(features, memory, schema)

    def one(query: int) -> Any:
        part = slice(query, query + 1)
        reference, indicators = queries.reference[part], queries.indicators[part]
        return index.search(reference_ids=reference, indicators=indicators, k=k).indices.block_until_ready()

    one(0)  # which compiles
    seconds_of_each = [timed(functools.partial(one, query))[0] for query in ProgressBar(range(count))]
    result["ManipulationIndex"] = spread(seconds_of_each)

    none = np.zeros(schema.num_attributes, bool)
    items = ItemGallery.build(features, memory, np.zeros((schema.num_attributes, sizes["dim"]), np.float32))
    items.norms  # noqa: B018  # computed once, for all items
    times: dict[str, list[float]] = {"first": [], "again": [], "filtered": []}
    rows, distances, asked = np.zeros((2, count, k), int), np.zeros((2, count, k)), []
    for query in ProgressBar(range(count), desc="ItemGallery"):
        edit = ItemEdit(queries.indicators[query].astype(float), none, none)
        start = time.perf_counter()
        item = items.products(features[queries.reference[query]])
        items.search(item, edit, k)
        times["first"].append(time.perf_counter() - start)
        n = filtered[query]
        allowed = labels[:, n] == queries.targets[query, n]
        for number, (name, rows_allowed) in enumerate((("again", None), ("filtered", allowed))):
            search = functools.partial(items.search, item, edit, k, allowed=rows_allowed)
            seconds, hits = timed(search)
            times[name].append(seconds)
            rows[number, query, : len(hits.rows)] = hits.rows
            distances[number, query, : len(hits.rows)] = hits.distances
        asked.append(items.comparison.apply(items.edit(item.blocks, edit)[None]).reshape(-1))
    result["ItemGallery"] = {name: spread(seconds) for name, seconds in times.items()}

    names = [f"images/{row:08d}.jpg" for row in range(len(features))]
    comparison = BlockComparison.of_blocks(schema.num_attributes, schema.num_attributes, "global", None)
    gallery = engine_gallery(features, comparison, names, labels, schema)
    filling, _ = timed(lambda: fill_engine(f"milvus:{folder / DATABASE}", gallery))
    stored = sum(path.stat().st_size for path in (folder / DATABASE).rglob("*") if path.is_file())
    about = {"names": schema.names, "values": schema.values, "fingerprint": gallery.fingerprint, "k": k}
    (folder / SCHEMA).write_text(json.dumps(about))
    np.savez(
        folder / QUERIES,
        asked=np.array(asked),
        attribute=filtered,
        target=queries.targets[range(count), filtered],
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engines", f"--folder={folder}"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    engine = json.loads(done.stdout.splitlines()[-1])
    found = np.load(folder / FOUND)
    halved = float16_rows(gallery.vectors[0 : len(features)], np.array(asked, np.float32), k)
    kept = [len(np.intersect1d(*pair)) for pair in zip(halved, rows[0], strict=True)]
    result["kept_by_float16"] = sum(kept) / rows[0].size
    result["milvus-lite"] = {
        "filling_seconds": filling,
        "stored_bytes": stored,
        "vector_bytes": 4 * features.size,
        **engine,
        "queries_with_other_rows": int((found["rows"] != rows).any(axis=2).sum()),
        "largest_difference_of_distances": float(np.abs(found["distances"] - distances).max()),
    }
    return result


def float16_rows(
    vectors: Float[np.ndarray, "G D"], queries: Float[np.ndarray, "Q D"], k: int
) -> Int[np.ndarray, "Q k"]:
    """Returns the k nearest rows of a gallery whose numbers are rounded to float16, in no order.

    Args:
      vectors: the gallery, [G, D].
      queries: what is asked for, not rounded, [Q, D].
      k: the number of rows.

    Example:
      >>> float16_rows(np.array([[1.0], [3.0], [2.0]], np.float32), np.array([[2.9]], np.float32), 2).tolist()
      [[1, 2]]
    """
    rounded = vectors.astype(np.float16).astype(np.float32)
    squares = np.square(rounded).sum(axis=1) - 2 * queries @ rounded.T
    return np.argpartition(squares, k - 1, axis=1)[:, :k]


def search_engine(folder: pathlib.Path) -> dict[str, Any]:
    """Opens a filled engine, asks it all queries without and with their filters, and keeps what it finds."""
    about = json.loads((folder / SCHEMA).read_text())
    schema = AttributeSchema(tuple(about["names"]), tuple(map(tuple, about["values"])))
    queries, k, before = np.load(folder / QUERIES), about["k"], resident()
    opening, engine = timed(
        lambda: open_engine(f"milvus:{folder / DATABASE}", schema=schema, fingerprint=about["fingerprint"])
    )
    asked = queries["asked"]
    first, _ = timed(lambda: exact_search(engine, asked[0], k))
    fetched: list[int] = []
    nearest = engine.nearest

    def counted(*arguments: Any, **options: Any) -> Any:
        candidates = nearest(*arguments, **options)
        fetched.append(len(candidates.rows))
        return candidates

    engine.nearest = counted
    times: tuple[list[float], list[float]] = ([], [])
    rows, distances = np.zeros((2, len(asked), k), int), np.zeros((2, len(asked), k))
    uncertain = 0
    for query in range(len(asked)):
        n, value = queries["attribute"][query], queries["target"][query]
        for number, where in enumerate(({}, {int(n): [int(value)]})):
            search = functools.partial(exact_search, engine, asked[query], k, where=where)
            seconds, found = timed(search)
            times[number].append(seconds)
            uncertain += not found.exact
            rows[number, query, : len(found.rows)] = found.rows
            distances[number, query, : len(found.rows)] = found.distances
    np.savez(folder / FOUND, rows=rows, distances=distances)
    after = resident()
    engine.close()
    return {
        "imported_bytes": before["VmRSS"],
        "peak_bytes": after["VmHWM"],
        "opening_seconds": opening,
        "first_seconds": first,
        "any": spread(times[0]),
        "filtered": spread(times[1]),
        "rows_fetched_per_query": sum(fetched) / (2 * len(asked)),
        "requests_per_query": len(fetched) / (2 * len(asked)),
        "uncertain": uncertain,
    }


if __name__ == "__main__":
    main()
