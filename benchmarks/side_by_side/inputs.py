"""Makes the same NumPy inputs for both sides, from fixed seeds or from files of the parent process."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

MISSING = 0.3  # the fraction of labels that are missing; in Shopping100k, images have 5 to 12 of 12 labels


def random_images(count: int, size: int) -> np.ndarray:
    """Returns random images, uint8 [count, size, size, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def random_vectors(count: int, size: int) -> np.ndarray:
    """Returns random vectors in place of images, float32 [count, size]."""
    return np.random.default_rng(0).standard_normal((count, size), np.float32)


def random_labels(count: int, sizes: Sequence[int]) -> np.ndarray:
    """Returns random labels, int64 [count, N], -1 where not labelled; values are about equally frequent."""
    rng = np.random.default_rng(1)
    labels = np.stack([rng.permutation(np.arange(count) % size) for size in sizes], axis=1)
    labels[rng.random(labels.shape) < MISSING] = -1
    return labels


def photographs(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the training images of a catalogue, a folder with an attributes.csv that lists them."""
    with (folder / "attributes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split", "train") == "train"]
    return [folder / row["image"] for row in rows]


def save_evaluation(folder: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes features, labels, queries and memory for both sides."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def load_evaluation(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays that ``save_evaluation`` wrote."""
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}
