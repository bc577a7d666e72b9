"""The search for manipulated features beside faiss, exact both.

    python benchmarks/search.py

All queries of an evaluation at Shopping100k's sizes, with the index and the manipulations counted in on every
side; and one more manipulation of an item that a session holds, beside one query of a flat index, for
galleries of several sizes. The others are faiss's flat index, on the CPU, and where JAX and torch both find a
GPU torch's matrix product and ``topk`` there. All in one process, one after the other; medians and spread. A
side that is not installed, and a gallery that does not fit, is skipped, and said.
"""

import argparse
import functools
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # where it is run as a file, not with -m

from benchmarks.evaluation import random_evaluation
from benchmarks.recording import machine_name, record
from benchmarks.schemas import schema_of_sizes
from benchmarks.side_by_side.cases import attribute_sizes
from gradrev_jax import ManipulationIndex, class_prototypes
from gradrev_jax.training.parallel import free_bytes

FULL = {"gallery": 20_000, "references": 1_581, "queries": 14_361, "dim": 340, "k": 50, "checked": 200}
TINY = {"gallery": 300, "references": 10, "queries": 40, "dim": 4, "k": 5, "checked": 10}
# (rows, d) of galleries of 12 features: growing rows, and growing d.
GALLERIES = ((20_000, 340), (100_000, 340), (100_000, 20), (1_000_000, 20), (1_000_000, 40))
GPU_GALLERIES = ((20_000, 340), (1_000_000, 40), (1_000_000, 340))
MANIPULATIONS, NEAREST = 300, 10
ROWS_AT_ONCE = 100_000  # of a random gallery, drawn on the device
TORCH_QUERIES = 1024  # whose distances to a gallery torch holds at a time


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write the result, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    # Before JAX looks for a GPU, where torch needs memory too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    on_gpu = jax.default_backend() == "gpu"
    galleries = ((500, 3), (700, 2)) if options.tiny else GPU_GALLERIES if on_gpu else GALLERIES
    path = options.out / f"search_{machine_name()}.json"
    result: dict[str, Any] = {
        "faiss": "measured" if faiss_index(np.zeros((1, 1), np.float32)) else "not installed",
        "torch on the GPU": "measured" if torch_on_gpu() else "not installed, or it finds no GPU",
        "one_more_manipulation": [],
    }
    result["evaluation"] = evaluation(TINY if options.tiny else FULL, options.repeats)
    record(path, result, quiet=True)  # whoever ends it keeps what is done
    for rows, dim in tqdm(galleries):
        result["one_more_manipulation"].append(one_more(rows, dim, options.tiny))
        record(path, result, quiet=True)
    print(result)
    print(f"written to {path}")
    return result


def torch_on_gpu() -> Any:
    """Torch, where both JAX and torch find a GPU; else None."""
    if jax.default_backend() != "gpu":
        return None
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


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

    def with_faiss() -> np.ndarray:
        return faiss_index(normalized(features)).search(manipulated(slice(None)), k)[1]

    def with_torch() -> np.ndarray:
        return torch_search(torch_on_gpu(), features, memory, queries.reference, queries.indicators, k)

    sides = {"gradrev_jax": ours}
    if faiss_index(np.zeros((1, 1), np.float32)):
        sides["faiss"] = with_faiss
    if torch_on_gpu():
        sides["torch on the GPU"] = with_torch
        with_torch()  # compiled, or loaded, before it counts, as ours is
    found = ours()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            times[name].append(timed(work)[0])
    return {
        "sizes": sizes,
        **{name: spread(seconds) for name, seconds in times.items()},
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


def torch_search(
    torch: Any,
    features: np.ndarray,
    memory: np.ndarray,
    reference: np.ndarray,
    indicators: np.ndarray,
    k: int,
    device: str = "cuda",
) -> np.ndarray:
    """The k nearest rows by matrix products in float32 and ``topk`` on the device, from host to host."""
    with torch.inference_mode():
        gallery = torch.from_numpy(features.reshape(len(features), -1)).to(device)
        weight = torch.from_numpy(np.array(memory).reshape(len(memory), -1)).to(device)
        rows = torch.nn.functional.normalize(gallery)
        found = []
        for start in range(0, len(reference), TORCH_QUERIES):
            some = slice(start, start + TORCH_QUERIES)
            changes = torch.from_numpy(indicators[some]).to(device).float() @ weight
            queries = torch.nn.functional.normalize(
                gallery[torch.from_numpy(reference[some]).to(device)] + changes
            )
            found.append((queries @ rows.T).topk(k, dim=1).indices)
        return torch.cat(found).cpu().numpy()


def random_gallery(rows: int, dim: int) -> Float[Array | np.ndarray, "G 12 d"]:
    """Normal numbers; on a GPU drawn there, since a host takes minutes for some 10^9 of them."""
    if jax.default_backend() == "cpu":
        return np.random.default_rng(0).standard_normal((rows, 12, dim), np.float32)
    return gallery_on_device(rows, dim)


def gallery_on_device(rows: int, dim: int) -> Float[Array, "G 12 d"]:
    """Normal numbers, drawn some rows at a time, so that the gallery alone needs its memory."""

    @functools.partial(jax.jit, donate_argnums=0)
    def fill(gallery: Array, key: Array, start: int) -> Array:
        some = jax.random.normal(key, (min(rows, ROWS_AT_ONCE), 12, dim))
        return jax.lax.dynamic_update_slice_in_dim(gallery, some, start, axis=0)

    gallery = jnp.zeros((rows, 12, dim))
    for start in range(0, rows, ROWS_AT_ONCE):  # the last rows move back to fit, over some that are there
        gallery = fill(gallery, jax.random.key(start), start)
    return gallery


def one_more(rows: int, dim: int, tiny: bool) -> dict[str, Any]:
    """One manipulation after the other of one item, and one query after the other of a flat index."""
    result: dict[str, Any] = {"rows": rows, "width": 12 * dim}
    schema = schema_of_sizes(attribute_sizes(12))
    needed = 4 * rows * (2 * 12 * dim + schema.num_values)  # given and normalised, and the table of products
    free = free_bytes(jax.devices()[0])
    if needed > 0.95 * free:
        return result | {
            "skipped": f"needs {needed / 2**30:.1f} GiB on the device, {free / 2**30:.1f} GiB are free"
        }
    features, rng = random_gallery(rows, dim), np.random.default_rng(1)
    memory = rng.standard_normal((schema.num_values, 12, dim), np.float32)
    memory[np.arange(12) != schema.attribute_of[:, None]] = 0  # Eq. 6: a prototype has its own block alone
    indicators = np.zeros((10 if tiny else MANIPULATIONS, 1, schema.num_values), np.int8)
    for row in indicators[:, 0]:
        added, removed = rng.choice(schema.num_values, 2, replace=False)
        row[added], row[removed] = 1, -1
    index = ManipulationIndex.build(features, memory, schema)
    sides = {"gradrev_jax": session_times(index, indicators)}
    if torch := torch_on_gpu():
        sides["torch on the GPU"] = torch_query_times(torch, index.products.rows)
    elif theirs := faiss_index(flat := np.asarray(index.products.rows).reshape(rows, -1)):
        queries = [flat[row : row + 1] for row in range(11)]
        sides["faiss"] = [timed(functools.partial(theirs.search, query, NEAREST))[0] for query in queries][1:]
    result |= {name: spread(times) for name, times in sides.items()}
    for name in sides:
        if name != "gradrev_jax":
            result["beside"] = name
            result["times_faster"] = result[name]["median_seconds"] / result["gradrev_jax"]["median_seconds"]
    return result


def torch_query_times(torch: Any, gallery: Float[Array, "G N d"]) -> list[float]:
    """Seconds of one query after the other: a matrix-vector product with the same rows in place, and topk."""
    rows = torch.from_dlpack(gallery).flatten(start_dim=1)

    def search(query: Any) -> np.ndarray:
        return (rows @ query).topk(NEAREST).indices.cpu().numpy()

    with torch.inference_mode():
        search(rows[0])
        return [timed(functools.partial(search, rows[row]))[0] for row in range(1, 11)]


def session_times(index: ManipulationIndex, indicators: np.ndarray) -> list[float]:
    """Seconds of each manipulation in a session."""
    session = index.session(0)

    def manipulate(indicator: np.ndarray) -> np.ndarray:
        return np.asarray(session.search(indicator, NEAREST).indices)

    manipulate(indicators[0])
    return [timed(functools.partial(manipulate, some))[0] for some in indicators]


if __name__ == "__main__":
    main()
