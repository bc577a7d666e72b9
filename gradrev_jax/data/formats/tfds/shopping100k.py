"""Builds Shopping100k as a TFDS data set from its images and the split files of ADDE.

Importing the module registers the data set, so that ``tfds.builder("shopping100k")`` finds it. It imports
tensorflow_datasets, an optional extra: ``import_tfds`` says how to install it.
"""

import dataclasses
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from gradrev_jax.data.catalogue import TEST, TRAIN, Catalogue
from gradrev_jax.data.changes import indicators_between
from gradrev_jax.data.formats.adde.reader import NAMES, SIZES, read_adde
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import DataError

# In the order of ADDE's split files.
ATTRIBUTES = (
    *("category", "collar", "color", "fabric", "fastening", "fit"),
    *("gender", "neckline", "pattern", "pocket", "sleeve", "sport"),
)
QUERIES, TRIPLETS = "queries", "triplets"
MANIPULATIONS = frozenset((QUERIES, TRIPLETS))


class Shopping100k(tfds.core.GeneratorBasedBuilder):
    """Garments with 12 attributes, and the manipulation queries and training triplets of ADDE.

    All splits of a TFDS data set have the same features, so a query is stored with the test image that it
    manipulates, and a triplet with its reference image. Indicators are not stored: they are the difference
    between the labels before and after.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The images of Shopping100k are given out by its authors on request. Put them into manual_dir, and "
        f"beside them ADDE's split files ({SIZES}, imgs_train.txt, labels_train.txt, ...), whose paths are "
        "relative to manual_dir."
    )

    def __init__(self, *, drop_contradictions: bool = False, **options: Any) -> None:
        """Creates the builder.

        Args:
          drop_contradictions: whether contradictions are left out, see ``read_adde``.
          **options: the options of every TFDS builder.
        """
        self._drop_contradictions = drop_contradictions
        super().__init__(**options)

    def _info(self) -> Any:
        """Returns the features; the names of classes come from the split files, at preparation."""
        number = tfds.features.Scalar(np.int64)
        labels = tfds.features.Tensor(shape=(len(ATTRIBUTES),), dtype=np.int64)
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            disable_shuffling=True,  # queries and triplets number the images in this order
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "name": tfds.features.Text(),
                    **{attribute: tfds.features.ClassLabel() for attribute in ATTRIBUTES},
                    QUERIES: tfds.features.Sequence({"number": number, "target": labels}),
                    TRIPLETS: tfds.features.Sequence(
                        {"number": number, "positive": number, "negative": number}
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = pathlib.Path(dl_manager.manual_dir)
        catalogue = read_manual(folder, drop_contradictions=self._drop_contradictions)
        for attribute, values in zip(ATTRIBUTES, catalogue.schema.values, strict=True):
            self.info.features[attribute].names = list(values)
        return {part: self._generate_examples(catalogue, part, folder) for part in (TRAIN, TEST)}

    def _generate_examples(
        self, catalogue: Catalogue, part: str, folder: pathlib.Path
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        queries, triplets = _by_image(catalogue, part)
        for number, row in enumerate(catalogue.parts[part].tolist()):
            name = catalogue.images.name(row)
            yield (
                number,
                {
                    "image": str(folder / name),
                    "name": name,
                    **dict(zip(ATTRIBUTES, catalogue.labels[row].tolist(), strict=True)),
                    QUERIES: queries[number],
                    TRIPLETS: triplets[number],
                },
            )


def read_manual(folder: pathlib.Path, *, drop_contradictions: bool = False) -> Catalogue:
    """Reads the catalogue of a folder with the images and the split files.

    Args:
      folder: the folder.
      drop_contradictions: whether contradictions are left out, see ``read_adde``.

    Raises:
      DataError: the files cannot be used, or have other attributes.
    """
    catalogue = read_adde(folder, folder, drop_contradictions=drop_contradictions)
    schema = catalogue.schema
    if schema.num_attributes != len(ATTRIBUTES):
        raise DataError(
            f"{folder / SIZES} has {schema.num_attributes} attributes, but Shopping100k has "
            f"{len(ATTRIBUTES)}: {', '.join(ATTRIBUTES)}"
        )
    if (folder / NAMES).is_file() and schema.names != ATTRIBUTES:
        raise DataError(f"{folder / NAMES} must have the attributes {', '.join(ATTRIBUTES)}, in this order")
    return catalogue


Rows = defaultdict[int, list[dict[str, Any]]]


def _by_image(catalogue: Catalogue, part: str) -> tuple[Rows, Rows]:
    """Returns the queries and triplets of each image of a part, with their number in the files."""
    queries: Rows = defaultdict(list)
    triplets: Rows = defaultdict(list)
    if part == TEST and catalogue.queries is not None:
        for number, reference in enumerate(catalogue.queries.reference.tolist()):
            target = catalogue.queries.targets[number].tolist()
            queries[reference].append({"number": number, "target": target})
    if part == TRAIN and catalogue.triplets is not None:
        found = catalogue.triplets
        images = zip(found.reference.tolist(), found.positive.tolist(), found.negative.tolist(), strict=True)
        for number, (reference, positive, negative) in enumerate(images):
            triplets[reference].append({"number": number, "positive": positive, "negative": negative})
    return queries, triplets


def add_manipulations(catalogue: Catalogue, cells: Mapping[str, Sequence[Any]]) -> Catalogue:
    """Returns the catalogue with its queries and triplets, in the order of the files; None: there are none.

    Args:
      catalogue: the catalogue of all images of the data set.
      cells: the values of the features ``queries`` and ``triplets`` by row.
    """
    train, test = catalogue.parts[TRAIN], catalogue.parts[TEST]
    queries, triplets = None, None
    reference, target = _in_order([cells[QUERIES][row] for row in test.tolist()], "target")
    if len(reference):
        before, targets = catalogue.labels[test[reference]], target.astype(np.int32)
        indicators = indicators_between(before, targets, catalogue.schema)
        queries = Queries(reference, indicators, targets, before != targets)
    images = _in_order([cells[TRIPLETS][row] for row in train.tolist()], "positive", "negative")
    if len(images[0]):
        reference, positive, negative = (train[image] for image in images)
        labels = catalogue.labels
        indicators = indicators_between(labels[reference], labels[positive], catalogue.schema)
        triplets = Triplets(reference, positive, negative, indicators)
    return dataclasses.replace(catalogue, queries=queries, triplets=triplets)


def _in_order(cells: Sequence[Mapping[str, Any]], *fields: str) -> list[np.ndarray]:
    """Returns the image of each entry and its fields, all int64, in the order of the entries' numbers."""
    image = np.repeat(np.arange(len(cells)), [len(cell["number"]) for cell in cells])
    number, *columns = (
        np.array([entry for cell in cells for entry in cell[field]], np.int64)
        for field in ("number", *fields)
    )
    order = np.argsort(number)
    return [column[order] for column in (image, *columns)]
