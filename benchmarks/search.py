"""Times the search for manipulated features beside faiss; both are exact.

    python benchmarks/search.py [--run=FOLDER]

It measures all queries of an evaluation, including the index and the manipulations on every side: at
Shopping100k's sizes, with features that have class structure and with independent normal numbers; and with
the features and queries of a run, in its own gallery and in all of its images. And it measures one more
manipulation of an item in a session, beside one query of a flat index, for galleries of several sizes. The
other sides are faiss's flat index on the CPU and, if JAX and torch both find a GPU,
torch's matrix product and ``topk`` there. All run in one process, one after the other; the result has medians
and spread. Sides that are not installed, and galleries that do not fit, are skipped and reported.
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

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.recording import machine_name, parse_flags, record
from benchmarks.schemas import schema_of_sizes
from benchmarks.search_galleries import Gallery, galleries_of_run, with_classes, without_classes
from benchmarks.side_by_side.cases import attribute_sizes
from gradrev_jax import ManipulationIndex
from gradrev_jax.progress import ProgressBar
from gradrev_jax.training.device_memory import free_bytes

FULL = {"gallery": 20_000, "references": 1_581, "queries": 14_361, "dim": 340}
TINY = {"gallery": 300, "references": 10, "queries": 40, "dim": 4}
FOUND, CHECKED = 50, 200  # the neighbours that are found, and the queries that are compared with float64
# The (rows, d) of galleries with 12 features per image, with growing rows and growing d.
GALLERIES = ((20_000, 340), (100_000, 340), (100_000, 20), (1_000_000, 20), (1_000_000, 40))
GPU_GALLERIES = ((20_000, 340), (1_000_000, 40), (1_000_000, 340))
MANIPULATIONS, NEAREST = 300, 10
ROWS_AT_ONCE = 100_000  # the rows of a random gallery that are drawn on the device at a time
TORCH_QUERIES = 1024  # the queries whose distances to the gallery torch holds at a time


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--run", type=pathlib.Path, help="the folder of a run whose features are searched, too"
    )
    parser.add_argument("--representation", default="features", help="what is compared of the run")
    parser.add_argument("--skip-manipulations", action="store_true", help="measure evaluations alone")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    options = parse_flags(parser, arguments)
    # This has to be set before JAX looks for a GPU, because torch needs memory there, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    on_gpu = jax.default_backend() == "gpu"
    galleries = ((500, 3), (700, 2)) if options.tiny else GPU_GALLERIES if on_gpu else GALLERIES
    path = options.out / f"search_{machine_name()}.json"
    result: dict[str, Any] = {
        "faiss": "measured" if faiss_index(np.zeros((1, 1), np.float32)) else "not installed",
        "torch on the GPU": "measured" if torch_on_gpu() else "not installed, or it finds no GPU",
        "one_more_manipulation": [],
    }
    sizes = TINY if options.tiny else FULL
    made = {"": with_classes, "_without_classes": without_classes}
    for name, make in made.items():
        result[f"evaluation{name}"] = evaluation(make(**sizes), options.repeats)
        record(path, result, quiet=True, about=options.about)  # whoever ends it keeps what is done
    for name, gallery in galleries_of_run(options.run, options.representation) if options.run else ():
        result[f"evaluation_{name}"] = evaluation(gallery, options.repeats)
        record(path, result, quiet=True, about=options.about)
    for rows, dim in () if options.skip_manipulations else ProgressBar(galleries):
        result["one_more_manipulation"].append(one_more(rows, dim, options.tiny))
        record(path, result, quiet=True, about=options.about)
    print(result)
    print(f"written to {path}")
    return result


def torch_on_gpu() -> Any:
    """Returns torch if both JAX and torch find a GPU; else None."""
    if jax.default_backend() != "gpu":
        return None
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def faiss_index(rows: np.ndarray) -> Any:
    """Returns a flat index of rows; None if faiss is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    return index


def normalized(features: np.ndarray) -> np.ndarray:
    """Flattens each image's features to one vector, and scales it to length 1."""
    flat = features.reshape(len(features), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds that the work takes, and its result."""
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done


def spread(seconds: list[float]) -> dict[str, float]:
    """Returns the median, the least, the most and the 99th percentile."""
    return {
        "median_seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "p99_seconds": float(np.quantile(seconds, 0.99)),
    }


def evaluation(gallery: Gallery, repeats: int) -> dict[str, Any]:
    """Times all queries of an evaluation, from features to neighbours, after a warm-up; sides take turns."""
    features, memory, reference, indicators, schema = gallery
    k = min(FOUND, len(features))

    def ours() -> np.ndarray:
        index = ManipulationIndex.build(features, memory, schema)
        return np.asarray(index.search(reference_ids=reference, indicators=indicators, k=k).indices)

    def with_faiss() -> np.ndarray:
        changes = indicators.astype(np.float32) @ memory.reshape(len(memory), -1)
        queries = normalized(features[reference].reshape(len(changes), -1) + changes)
        return faiss_index(normalized(features)).search(queries, k)[1]

    def with_torch() -> np.ndarray:
        return torch_search(torch_on_gpu(), features, memory, reference, indicators, k)

    sides = {"gradrev_jax": ours}
    if faiss_index(np.zeros((1, 1), np.float32)):
        sides["faiss"] = with_faiss
    if torch_on_gpu():
        sides["torch on the GPU"] = with_torch
        with_torch()  # the first call, which loads kernels, is not counted, as on our side
    found = ours()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            times[name].append(timed(work)[0])
    result: dict[str, Any] = {"sizes": gallery.sizes | {"k": k}}
    result |= {name: spread(seconds) for name, seconds in times.items()}
    if "faiss" in times:
        ratios = [theirs / own for own, theirs in zip(times["gradrev_jax"], times["faiss"], strict=True)]
        result["times_faster_than_faiss"] = {"median": statistics.median(ratios), "least": min(ratios)}
    checked = min(CHECKED, len(reference))
    error = excess(features, memory, reference, indicators, found, checked)
    return result | {"largest_excess_of_a_squared_distance": error}


def excess(
    features: np.ndarray,
    memory: np.ndarray,
    reference: np.ndarray,
    indicators: np.ndarray,
    found: np.ndarray,
    count: int,
) -> float:
    """Returns the largest deviation of the found k-th squared distances from float64's, for some queries."""
    chosen = np.linspace(0, len(found) - 1, count).astype(int)
    gallery = normalized(features.astype(np.float64))
    changes = indicators[chosen].astype(np.float64) @ memory.astype(np.float64).reshape(len(memory), -1)
    vectors = normalized(features[reference[chosen]].astype(np.float64).reshape(count, -1) + changes)
    squares = 2 - 2 * vectors @ gallery.T
    nearest = np.sort(squares, axis=1)[:, : found.shape[1]]
    return float(np.abs(np.take_along_axis(squares, found[chosen], axis=1) - nearest).max())


def torch_search(
    torch: Any,
    features: np.ndarray,
    memory: np.ndarray,
    reference: np.ndarray,
    indicators: np.ndarray,
    k: int,
    device: str = "cuda",
) -> np.ndarray:
    """Returns the k nearest rows by float32 matrix products and ``topk`` on the device, from host to host."""
    with torch.inference_mode():
        gallery = torch.from_numpy(features.reshape(len(features), -1)).to(device)
        weight = torch.from_numpy(np.array(memory).reshape(len(memory), -1)).to(device)
        rows = torch.nn.functional.normalize(gallery)
        found = []
        for start in range(0, len(reference), TORCH_QUERIES):
            part = slice(start, start + TORCH_QUERIES)
            changes = torch.from_numpy(indicators[part]).to(device).float() @ weight
            queries = torch.nn.functional.normalize(
                gallery[torch.from_numpy(reference[part]).to(device)] + changes
            )
            found.append((queries @ rows.T).topk(k, dim=1).indices)
        return torch.cat(found).cpu().numpy()


def random_gallery(rows: int, dim: int) -> Float[Array | np.ndarray, "G 12 d"]:
    """Draws normal numbers; on a GPU if there is one, because a host takes minutes for 10^9 of them."""
    if jax.default_backend() == "cpu":
        return np.random.default_rng(0).standard_normal((rows, 12, dim), np.float32)
    return gallery_on_device(rows, dim)


def gallery_on_device(rows: int, dim: int) -> Float[Array, "G 12 d"]:
    """Draws normal numbers a block of rows at a time, so that hardly more than the gallery is in memory."""

    @functools.partial(jax.jit, donate_argnums=0)
    def fill(gallery: Array, key: Array, start: int) -> Array:
        block = jax.random.normal(key, (min(rows, ROWS_AT_ONCE), 12, dim))
        return jax.lax.dynamic_update_slice_in_dim(gallery, block, start, axis=0)

    gallery = jnp.zeros((rows, 12, dim))
    for start in range(0, rows, ROWS_AT_ONCE):  # the last block moves back to fit, and overwrites some rows
        gallery = fill(gallery, jax.random.key(start), start)
    return gallery


def one_more(rows: int, dim: int, tiny: bool) -> dict[str, Any]:
    """Times single manipulations of one item in a session, and single queries of a flat index."""
    result: dict[str, Any] = {"rows": rows, "width": 12 * dim}
    schema = schema_of_sizes(attribute_sizes(12))
    # The features, the normalised features, and the table of products.
    needed = 4 * rows * (2 * 12 * dim + schema.num_values)
    free = free_bytes(jax.devices()[0])
    if needed > 0.95 * free:
        return result | {
            "skipped": f"needs {needed / 2**30:.1f} GiB on the device, {free / 2**30:.1f} GiB are free"
        }
    features, rng = random_gallery(rows, dim), np.random.default_rng(1)
    memory = rng.standard_normal((schema.num_values, 12, dim), np.float32)
    memory[np.arange(12) != schema.attribute_of[:, None]] = 0  # Eq. 6: a prototype has only its own block
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
    """Returns the seconds of single queries: a matrix-vector product with the rows in place, and topk."""
    rows = torch.from_dlpack(gallery).flatten(start_dim=1)

    def search(query: Any) -> np.ndarray:
        return (rows @ query).topk(NEAREST).indices.cpu().numpy()

    with torch.inference_mode():
        search(rows[0])
        return [timed(functools.partial(search, rows[row]))[0] for row in range(1, 11)]


def session_times(index: ManipulationIndex, indicators: np.ndarray) -> list[float]:
    """Returns the seconds of each manipulation in a session."""
    session = index.session(0)

    def manipulate(indicator: np.ndarray) -> np.ndarray:
        return np.asarray(session.search(indicator, NEAREST).indices)

    manipulate(indicators[0])
    return [timed(functools.partial(manipulate, indicator))[0] for indicator in indicators]


if __name__ == "__main__":
    main()
