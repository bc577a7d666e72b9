"""Times a whole manipulation evaluation at Shopping100k's sizes: index, search and metrics.

    python -m benchmarks.evaluation

14,361 queries of 1,581 reference images against 20,000 images with 12 attributes of 340 numbers. Features are
random: one centre per value that an image has, plus noise. For comparison, the plain path of ``manipulate``,
``normalize_features`` and ``nearest_neighbors`` runs on the same data, but only on some of the queries,
because it is slow; both must find the same distances. The first evaluation, which compiles, is reported
separately.
"""

import argparse
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks.recording import are_changed, parse_flags, record
from benchmarks.resident_memory import peak_resident
from benchmarks.schemas import SHOPPING100K_SIZES, schema_of_sizes
from gradrev_jax import AttributeSchema, ManipulationIndex, Neighbors, nearest_neighbors
from gradrev_jax.core.manipulation import class_prototypes, manipulate
from gradrev_jax.core.normalization import NORMALIZATIONS, Normalization, normalize_features
from gradrev_jax.data.changes import indicators_between
from gradrev_jax.data.queries import Queries
from gradrev_jax.evaluation.scores import retrieval_metrics
from gradrev_jax.search.ranking import MAX_RELATIVE_ERROR

KS = (1, 2, 3, 4, 5, 10, 20, 30, 40, 50)
PLAIN_AT_ONCE = 256


def random_evaluation(
    gallery: int, references: int, queries: int, dim: int, seed: int = 0
) -> tuple[Float[np.ndarray, "G N d"], Int[np.ndarray, "G N"], Queries, AttributeSchema]:
    """Returns random features, labels and queries, and their schema."""
    rng = np.random.default_rng(seed)
    schema = schema_of_sizes(SHOPPING100K_SIZES)
    labels = np.stack([rng.integers(0, size, gallery) for size in SHOPPING100K_SIZES], axis=1)
    centres = rng.normal(size=(schema.num_values, dim)).astype(np.float32)
    features = rng.normal(size=(gallery, len(SHOPPING100K_SIZES), dim)).astype(np.float32)
    features += centres[labels + np.asarray(schema.offsets)]
    drawn = rng.permutation(gallery)[:references]
    reference = np.sort(drawn[np.arange(queries) % len(drawn)])
    changed = rng.integers(0, len(SHOPPING100K_SIZES), queries)
    before = labels[reference]
    after, size = before.copy(), np.asarray(SHOPPING100K_SIZES)[changed]
    query = np.arange(queries)
    after[query, changed] = (before[query, changed] + rng.integers(1, size)) % size
    indicators = indicators_between(before, after, schema)
    return features, labels, Queries(reference, indicators, after, before != after), schema


def evaluate(
    features: Float[np.ndarray, "G N d"],
    labels: Int[np.ndarray, "G N"],
    memory: Float[Array, "J N d"],
    queries: Queries,
    schema: AttributeSchema,
    normalize: Normalization,
    ks: Sequence[int],
) -> tuple[dict[str, float], Neighbors]:
    """Evaluates once; returns the seconds of each part, and the neighbours that the search found."""
    seconds = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = jax.block_until_ready(function())
        seconds[name] = time.perf_counter() - start
        return result

    def build() -> ManipulationIndex:
        index = ManipulationIndex.build(features, memory, schema, normalize)
        jax.block_until_ready(index.products)  # the index itself is not a pytree
        return index

    index = timed("build", build)
    references, inverse = np.unique(queries.reference, return_inverse=True)
    untouched = np.zeros((len(references), schema.num_values), np.int8)
    neighbors = timed(
        "search",
        lambda: index.search(
            reference_ids=np.concatenate([queries.reference, references]),
            indicators=np.concatenate([queries.indicators, untouched]),
            k=max(ks),
        ),
    )
    found, baseline = (
        Neighbors(neighbors.indices[part], neighbors.distances[part])
        for part in (slice(len(queries)), slice(len(queries), None))
    )
    timed("metrics", lambda: retrieval_metrics(labels[np.asarray(found.indices)], queries, ks))
    unchanged = np.asarray(baseline.indices)[inverse]
    timed("metrics_baseline", lambda: retrieval_metrics(labels[unchanged], queries, ks))
    seconds["total"] = sum(seconds.values())
    return seconds, found


def plain_search(
    features: Float[Array, "G N d"],
    memory: Float[Array, "J N d"],
    queries: Queries,
    chosen: Int[np.ndarray, " P"],
    normalize: Normalization,
    k: int,
) -> tuple[float, Neighbors]:
    """Searches on the plain path for chosen queries; returns the seconds once compiled, and the result."""
    rows = jax.block_until_ready(normalize_features(features, normalize))

    def search(chunk: Int[np.ndarray, " B"]) -> Neighbors:
        edited = manipulate(features[queries.reference[chunk]], queries.indicators[chunk], memory)
        return jax.block_until_ready(nearest_neighbors(normalize_features(edited, normalize), rows, k))

    chunks = [chosen[start : start + PLAIN_AT_ONCE] for start in range(0, len(chosen), PLAIN_AT_ONCE)]
    for size in {len(chunk) for chunk in chunks}:
        search(chosen[:size])
    start = time.perf_counter()
    found = [search(chunk) for chunk in chunks]
    seconds = time.perf_counter() - start
    return seconds, Neighbors(*(jnp.concatenate(part) for part in zip(*found, strict=True)))


def disagreements(found: Neighbors, expected: Neighbors) -> tuple[int, float]:
    """Returns the number of rows that differ, and the largest relative difference of distances at a rank."""
    differ = int((found.indices != expected.indices).sum())
    distances = np.asarray(found.distances, np.float64), np.asarray(expected.distances, np.float64)
    relative = np.abs(distances[0] - distances[1]) / np.maximum(distances[1], np.finfo(np.float32).tiny)
    return differ, float(relative.max())


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", type=int, default=20_000)
    parser.add_argument("--references", type=int, default=1_581)
    parser.add_argument("--queries", type=int, default=14_361)
    parser.add_argument("--dim", type=int, default=340, help="of one attribute's feature")
    parser.add_argument("--normalize", choices=NORMALIZATIONS, default="global")
    parser.add_argument("--ks", type=int, nargs="+", default=list(KS), help="cut-offs of the metrics")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain-queries", type=int, default=512, help="of all queries, on the plain path")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    sizes = ("gallery", "references", "queries", "dim", "normalize", "ks")
    options = parse_flags(
        parser, arguments, is_trial=lambda options: are_changed(parser, options, (*sizes, "plain_queries"))
    )

    features, labels, queries, schema = random_evaluation(
        options.gallery, options.references, options.queries, options.dim
    )
    memory = class_prototypes(features, labels, schema)
    inputs = features, labels, memory, queries, schema, options.normalize, options.ks
    first, _ = evaluate(*inputs)
    repeats = []
    for _ in range(options.repeats):
        seconds, found = evaluate(*inputs)
        repeats.append(seconds)
    peak = peak_resident() / 2**30

    chosen = np.random.default_rng(1).permutation(len(queries))[: options.plain_queries]
    plain, expected = plain_search(
        jnp.asarray(features), memory, queries, chosen, options.normalize, max(options.ks)
    )
    part = Neighbors(found.indices[chosen], found.distances[chosen])
    differ, relative = disagreements(part, expected)
    # Of a squared distance it is MAX_RELATIVE_ERROR at most, of which the root leaves half.
    assert relative < MAX_RELATIVE_ERROR / 2, (
        f"the two paths' distances differ by {relative:.1e} of themselves"
    )

    result = {
        "sizes": {name: getattr(options, name) for name in sizes if name != "normalize"},
        "normalize": options.normalize,
        "seconds": {
            name: {
                "first": first[name],
                "median": statistics.median(seconds[name] for seconds in repeats),
                "least": min(seconds[name] for seconds in repeats),
                "most": max(seconds[name] for seconds in repeats),
            }
            for name in first
        },
        "plain_search": {
            "queries": len(chosen),
            "seconds": plain,
            "seconds_of_all_queries": plain * len(queries) / len(chosen),
        },
        "agreement": {
            "rows_compared": expected.indices.size,
            "rows_that_differ": differ,
            "largest_relative_difference_of_distances": relative,
        },
        "peak_memory_gib": peak,
        "load_average": os.getloadavg()[0],
    }
    print(f"{'seconds':18}{'first':>9}{'median':>9}{'least':>9}{'most':>9}")
    for name, row in result["seconds"].items():
        print(f"{name:18}" + "".join(f"{value:9.2f}" for value in row.values()))
    print(
        f"plain search       {plain:.2f} for {len(chosen)} of {len(queries)} queries, that is "
        f"{result['plain_search']['seconds_of_all_queries']:.1f} for all\n"
        f"{differ} of {expected.indices.size} rows differ, distances by up to {relative:.1e} of themselves; "
        f"peak memory {peak:.1f} GiB, load average {os.getloadavg()[0]:.1f}"
    )
    record(options.out / "evaluation.json", result, about=options.about)
    return result


if __name__ == "__main__":
    main()
