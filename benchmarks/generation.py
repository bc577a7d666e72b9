"""Measures the time and memory to generate and write queries and triplets at Shopping100k's size.

    python -m benchmarks.generation

80,586 training and 20,000 test images, 12 attributes, 151 values, 120,371 triplets, and the queries of 1,581
reference images. Labels are random: 5 to 12 attributes per image are labelled, and the frequencies of the
values are proportional to 1, 1/2**s, 1/3**s, ... With equal frequencies, few images share labels: for s = 0
hardly any change leads to labels that another image has.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np

from benchmarks.recording import are_changed, parse_flags, record
from benchmarks.resident_memory import peak_resident
from benchmarks.schemas import SHOPPING100K_SIZES, schema_of_sizes
from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.data.catalogue import Catalogue, split_parts
from gradrev_jax.data.formats.adde.writer import write_adde
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.data.triplets import generate_triplets

TRAIN, TEST, TRIPLETS, REFERENCES = 80_586, 20_000, 120_371, 1_581


def random_catalogue(train: int, test: int, skew: float, seed: int = 0) -> Catalogue:
    """Returns a catalogue with random labels, and images that are only file names."""
    rng = np.random.default_rng(seed)
    schema = schema_of_sizes(SHOPPING100K_SIZES)
    count = train + test
    labels = np.empty((count, len(SHOPPING100K_SIZES)), np.int32)
    for n, size in enumerate(SHOPPING100K_SIZES):
        frequency = np.arange(1, size + 1) ** -skew
        labels[:, n] = rng.choice(size, count, p=frequency / frequency.sum())
    labelled = rng.integers(5, len(SHOPPING100K_SIZES) + 1, count)
    order = rng.random(labels.shape).argsort(axis=1)
    labels[order >= labelled[:, None]] = NOT_LABELLED
    images = ImageFiles(pathlib.Path(), tuple(f"images/{row:06}.jpg" for row in range(count)))
    return Catalogue(schema, images, labels, split_parts(np.where(np.arange(count) < train, "train", "test")))


def main() -> None:
    """Measures, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fraction", type=float, default=1.0, help="of all sizes, for a quick look")
    parser.add_argument("--skew", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    arguments = parse_flags(
        parser, None, is_trial=lambda options: are_changed(parser, options, ("fraction", "skew"))
    )
    train, test, triplets, references = (
        round(arguments.fraction * size) for size in (TRAIN, TEST, TRIPLETS, REFERENCES)
    )
    results = []
    for skew in arguments.skew:
        catalogue = random_catalogue(train, test, skew)
        start = time.perf_counter()
        queries = generate_queries(catalogue.part_labels("test"), catalogue.schema, num_references=references)
        queried = time.perf_counter()
        drawn = generate_triplets(catalogue.part_labels("train"), catalogue.schema, count=triplets)
        generated = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            splits = pathlib.Path(folder) / "splits"
            write_adde(splits, catalogue, queries, drawn.renumber(catalogue.parts["train"]))
            written = time.perf_counter()
            megabytes = sum(path.stat().st_size for path in splits.iterdir()) / 2**20
        distinct = len(np.unique(catalogue.part_labels("train"), axis=0))
        results.append(
            {
                "skew": skew,
                "distinct_training_label_rows": distinct,
                "queries": len(queries),
                "triplets": len(drawn),
                "seconds_queries": queried - start,
                "seconds_triplets": generated - queried,
                "seconds_writing": written - generated,
                "megabytes_written": megabytes,
                "peak_memory_mib": peak_resident() / 2**20,
            }
        )
        print(
            f"skew {skew}: {len(queries):,} queries in {queried - start:.1f} s, {len(drawn):,} triplets in "
            f"{generated - queried:.1f} s ({distinct:,} distinct label rows), {megabytes:.0f} MiB written in "
            f"{written - generated:.1f} s; peak memory so far {results[-1]['peak_memory_mib']:,.0f} MiB"
        )
    record(
        arguments.out / "generation.json",
        {"train": train, "test": test, "results": results},
        about=arguments.about,
    )


if __name__ == "__main__":
    main()
