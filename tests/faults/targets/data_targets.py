"""Fuzz targets of what reads data: tables, split directories, images and embeddings."""

import pathlib

import numpy as np
from PIL import Image

from gradrev_jax.data.catalogue import Catalogue
from gradrev_jax.data.formats.table.reader import read_table
from gradrev_jax.data.images.files import ImageFiles
from tests.faults.fuzzing import SECRET, Target

IMAGES = tuple(f"images/{number}.png" for number in range(8))


def draw_images(folder: pathlib.Path) -> None:
    """Writes eight small images, and a link out of the folder."""
    (folder / "images").mkdir()
    for number, name in enumerate(IMAGES):
        Image.new("RGB", (12, 9), (number * 30, 40, 200)).save(folder / name)
    (folder / "link.jpg").symlink_to(f"../{SECRET}")


def check_catalogue(catalogue: Catalogue) -> None:
    """Asserts what holds for every catalogue, and reads its images."""
    rows, (count, attributes) = len(catalogue.images), catalogue.labels.shape
    assert rows == count
    assert attributes == len(catalogue.schema.names) >= 1
    sizes = np.array([len(values) for values in catalogue.schema.values])
    assert ((catalogue.labels >= -1) & (catalogue.labels < sizes)).all()
    for part in catalogue.parts.values():
        assert ((part >= 0) & (part < rows)).all()
        assert len(np.unique(part)) == len(part)
    if isinstance(catalogue.images, ImageFiles):
        for row in range(min(rows, 3)):
            assert (catalogue.images.root / catalogue.images.paths[row]).read_bytes()


def make_table(folder: pathlib.Path) -> None:
    """Writes a table with quotes, missing cells and several letters."""
    draw_images(folder)
    lines = ["image,split,colour,style name,länge"]
    for row, name in enumerate(IMAGES):
        part = ("train", "val", "test", "train")[row % 4]
        style = ('"long, ""wide"""', "short", "")[row % 3]
        lines.append(f"{name},{part},{('red', 'Blue', 'blue')[row % 3]},{style},{row % 3}.0")
    (folder / "attributes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def only(*names: str):
    """Returns a function that finds the files with some names."""
    return lambda folder: [folder / name for name in names]


def read_small_table(folder: pathlib.Path) -> None:
    """Reads the table as a run with default settings does."""
    notes = []
    check_catalogue(read_table(folder, say=notes.append))


TABLE = Target("table", make_table, read_small_table, files=only("attributes.csv"))

TARGETS = {target.name: target for target in (TABLE,)}
