"""golden.npz: what the PyTorch reference makes of the golden cases, for where there is no torch."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tests.parity.cases import Batch, Case, Result, Retrieval

PATH = pathlib.Path(__file__).with_name("golden.npz")


def read() -> dict[str, np.ndarray]:
    """All arrays, by name."""
    with np.load(PATH, allow_pickle=False) as file:
        return dict(file)


class Golden(NamedTuple):
    """A case's share of the file."""

    weights: dict[str, np.ndarray]
    batch: Batch
    expected: Result


def of_case(arrays: Mapping[str, np.ndarray], case: Case) -> Golden:
    """Inputs and outputs of a case."""
    parameters = under(arrays, f"{case.name}/parameters")
    batch = Batch(arrays[f"images/{case.pixels}"], arrays["labels"], arrays["indicators"])
    expected = Result(
        arrays[f"{case.name}/features"],
        under(arrays, f"{case.name}/terms"),
        under(arrays, f"{case.name}/gradients"),
        parameters,
    )
    return Golden({name: arrays[f"weights/{name}"] for name in parameters}, batch, expected)


def retrieval(arrays: Mapping[str, np.ndarray]) -> tuple[Retrieval, np.ndarray, dict[str, np.ndarray]]:
    """The queries, their neighbours, and each metric at all cut-offs."""
    queries = Retrieval(**under(arrays, "retrieval/queries"))
    return queries, arrays["retrieval/neighbors"], under(arrays, "retrieval/metrics")


def under(arrays: Mapping[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
    """Arrays whose name begins with a folder's, by the rest of it."""
    return {
        name.removeprefix(f"{folder}/"): array
        for name, array in arrays.items()
        if name.startswith(f"{folder}/")
    }


def named(tree: Mapping[str, object], folder: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of nested dicts, by their path."""
    for name, item in tree.items():
        if isinstance(item, Mapping):
            yield from named(item, f"{folder}{name}/")
        else:
            yield f"{folder}{name}", np.asarray(item)
