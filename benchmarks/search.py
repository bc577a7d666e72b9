"""The search for manipulated features beside faiss, exact both.

    python benchmarks/search.py

All queries of an evaluation at Shopping100k's sizes, with the index and the manipulations counted in on both
sides; and one more manipulation of an item that a session holds, beside one query of a flat index, for
galleries of several sizes. Both sides in one process, one after the other; medians and spread. faiss is
skipped, and said, where it is not installed.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # where it is run as a file, not with -m

from benchmarks.evaluation import random_evaluation
from benchmarks.recording import record
from benchmarks.schemas import schema_of_sizes
from benchmarks.side_by_side.cases import attribute_sizes
from gradrev_jax import AttributeSchema, ManipulationIndex, class_prototypes

FULL = {"gallery": 20_000, "references": 1_581, "queries": 14_361, "dim": 340, "k": 50, "checked": 200}
TINY = {"gallery": 300, "references": 10, "queries": 40, "dim": 4, "k": 5, "checked": 10}
# (rows, d) of galleries of 12 features: growing rows, and growing d.
GALLERIES = ((20_000, 340), (100_000, 340), (100_000, 20), (1_000_000, 20), (1_000_000, 40))
MANIPULATIONS, NEAREST = 300, 10


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write the result, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    galleries = ((500, 3), (700, 2)) if options.tiny else GALLERIES
    result = {
        "evaluation": evaluation(TINY if options.tiny else FULL, options.repeats),
        "one_more_manipulation": [one_more(rows, dim, options.tiny) for rows, dim in tqdm(galleries)],
        "faiss": "measured" if faiss_index(np.zeros((1, 1), np.float32)) else "not installed",
    }
    print(result)
    record(options.out / "search.json", result)
    return result


def faiss_index(rows: np.ndarray) -> Any:
    """A flat index of rows; None where there is no faiss."""
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    return index


def normalized(features: np.ndarray) -> np.ndarray:
    """Features as one vector each, of length 1."""
    flat = features.reshape(len(features), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that it takes, and what it returns."""
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, least, most and the 99th percentile."""
    return {
        "median_seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "p99_seconds": float(np.quantile(seconds, 0.99)),
    }


def evaluation(sizes: dict[str, int], repeats: int) -> dict[str, Any]:
    """All queries of an evaluation, from features to neighbours; the first time of ours is not counted."""
    k = sizes["k"]
    features, labels, queries, schema = random_evaluation(
        sizes["gallery"], sizes["references"], sizes["queries"], sizes["dim"]
    )
    memory = np.asarray(class_prototypes(features, labels, schema))

    def ours() -> np.ndarray:
        index = ManipulationIndex.build(features, memory, schema)
        found = index.search(reference_ids=queries.reference, indicators=queries.indicators, k=k)
        return np.asarray(found.indices)

    def manipulated(rows: slice) -> np.ndarray:
        changes = queries.indicators[rows].astype(np.float32) @ memory.reshape(len(memory), -1)
        flat = features[queries.reference[rows]].reshape(len(changes), -1)
        return normalized(flat + changes)

    def theirs() -> np.ndarray | None:
        index = faiss_index(normalized(features))
        return index.search(manipulated(slice(None)), k)[1] if index else None

    found = ours()
    times: dict[str, list[float]] = {"gradrev_jax": [], "faiss": []}
    for _ in range(repeats):
        times["gradrev_jax"].append(timed(ours)[0])
        seconds, others = timed(theirs)
        if others is not None:
            times["faiss"].append(seconds)
    return {
        "sizes": sizes,
        **{name: spread(seconds) for name, seconds in times.items() if seconds},
        "largest_excess_of_a_squared_distance": excess(
            features, memory, queries.reference, queries.indicators, found, sizes["checked"]
        ),
    }


def excess(
    features: np.ndarray,
    memory: np.ndarray,
    reference: np.ndarray,
    indicators: np.ndarray,
    found: np.ndarray,
    count: int,
) -> float:
    """By how much the k-th found is at most farther than float64's k-th, for some queries and all k."""
    some = np.linspace(0, len(found) - 1, count).astype(int)
    gallery = normalized(features.astype(np.float64))
    changes = indicators[some].astype(np.float64) @ memory.astype(np.float64).reshape(len(memory), -1)
    vectors = normalized(features[reference[some]].astype(np.float64).reshape(count, -1) + changes)
    squares = 2 - 2 * vectors @ gallery.T
    nearest = np.sort(squares, axis=1)[:, : found.shape[1]]
    return float(np.abs(np.take_along_axis(squares, found[some], axis=1) - nearest).max())


def one_more(rows: int, dim: int, tiny: bool) -> dict[str, Any]:
    """One manipulation after the other of one item, and one query after the other of a flat index."""
    schema = schema_of_sizes(attribute_sizes(12))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, 12, dim), np.float32)
    memory = rng.standard_normal((schema.num_values, 12, dim), np.float32)
    memory[np.arange(12) != schema.attribute_of[:, None]] = 0  # Eq. 6: a prototype has its own block alone
    indicators = np.zeros((10 if tiny else MANIPULATIONS, 1, schema.num_values), np.int8)
    for row in indicators[:, 0]:
        added, removed = rng.choice(schema.num_values, 2, replace=False)
        row[added], row[removed] = 1, -1
    times = session_times(features, memory, schema, indicators)
    result: dict[str, Any] = {"rows": rows, "width": 12 * dim}
    result["gradrev_jax"] = spread(times)
    flat = normalized(features)
    if theirs := faiss_index(flat):
        queries = [flat[row : row + 1] for row in range(11)]
        seconds = [timed(functools.partial(theirs.search, query, NEAREST))[0] for query in queries]
        result["faiss"] = spread(seconds[1:])
        ratio = result["faiss"]["median_seconds"] / result["gradrev_jax"]["median_seconds"]
        result["times_faster"] = ratio
    return result


def session_times(
    features: np.ndarray, memory: np.ndarray, schema: AttributeSchema, indicators: np.ndarray
) -> list[float]:
    """Seconds of each manipulation in a session."""
    index = ManipulationIndex.build(features, memory, schema)
    session = index.session(0)

    def manipulate(indicator: np.ndarray) -> np.ndarray:
        return np.asarray(session.search(indicator, NEAREST).indices)

    manipulate(indicators[0])
    return [timed(functools.partial(manipulate, some))[0] for some in indicators]


if __name__ == "__main__":
    main()
