"""Reads a catalogue from a data set that TensorFlow Datasets (TFDS) has prepared, without TensorFlow.

Without TensorFlow, TFDS reads only what it prepared with ``file_format="array_record"``. A data set is never
downloaded or prepared here; the error says by which command TFDS does it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import (
    DEFAULT_SAMPLING,
    TEST,
    TRAIN,
    Catalogue,
    Sampling,
    seeded_split,
    split_parts,
)
from gradrev_jax.data.formats.tfds.builders import (
    assign_parts,
    import_tfds,
    prepared_builder,
    split_records,
)
from gradrev_jax.data.images.limits import DEFAULT_LIMITS, ImageLimits
from gradrev_jax.errors import ConfigError, DataError, did_you_mean

FACES = (  # those of CelebA's 40 attributes that can be seen without doubt
    *("Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Eyeglasses"),
    *("Male", "Mustache", "Smiling", "Wearing_Hat", "Young"),
)

# Attribute -> feature, for data sets that hold more than attributes.
MAPPINGS: dict[str, dict[str, str]] = {
    "celeb_a": {name.lower(): f"attributes/{name}" for name in FACES},
    "dsprites": {
        name: f"label_{name}" for name in ("shape", "scale", "orientation", "x_position", "y_position")
    },
    "shapes3d": {
        name: f"label_{name}"
        for name in ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    },
}


@dataclasses.dataclass(frozen=True)
class TfdsFeatures:
    """Represents which features of a TFDS data set are used.

    Attributes:
      attributes: the feature of each attribute, as ``attributes/Smiling`` for one within another. Classes,
        whole numbers, truth values and texts can be attributes, see ``feature_labels``. None or empty: those
        of ``MAPPINGS``, or all classes.
      image_feature: the image: encoded, or an array uint8 [H, W, 1 or 3].
      min_count: the least number of images of a value; images of rarer ones become "not labelled".
    """

    attributes: Mapping[str, str] | None = None
    image_feature: str = "image"
    min_count: int = 1


def read_tfds(
    name: str,
    data_dir: str | None = None,
    features: TfdsFeatures = TfdsFeatures(),
    *,
    splits: Sequence[str] = (),
    sampling: Sampling = DEFAULT_SAMPLING,
    limits: ImageLimits = DEFAULT_LIMITS,
    progress: bool = True,
) -> Catalogue:
    """Reads the catalogue of a data set that TFDS has prepared.

    Args:
      name: the name in TFDS: ``shapes3d``, or with a config and a version, ``glue/cola:1.0.0``.
      data_dir: the folder in which TFDS prepares data sets; None: the default of TFDS.
      features: the features used.
      splits: the splits of train and test, or of train, validation and test, as TFDS writes them
        (``train[:80%]``); a single one, from which a seeded test part is split off; or (): those called
        train, validation and test, of which validation is the test part if there is no test, or the only
        split there is.
      sampling: the images to read, out of all splits together, and the seeded test part of a single split.
      limits: the limits of the images.
      progress: whether bars are shown if reading takes more than seconds.

    Returns:
      The catalogue, training images first. If all of Shopping100k is read, its queries and triplets come with
      it.

    Raises:
      ConfigError: TFDS is not installed.
      DataError: the data set is unknown or not prepared, or has no such feature or split; the message says
        which there are.
    """
    import_tfds()
    # Only now can modules that import TFDS be imported. This registers Shopping100k, too.
    from gradrev_jax.data.formats.tfds import shopping100k
    from gradrev_jax.data.formats.tfds.features import leaves
    from gradrev_jax.data.formats.tfds.images import Records, TfdsImages

    builder = prepared_builder(name, data_dir)
    described = builder.info.features
    available = leaves(described)
    paths = _attribute_paths(builder.name, features.attributes, available)
    _check_image(builder.name, features.image_feature, available)
    part_of_split = assign_parts(builder, splits)
    records = Records.from_sources(builder.name, split_records(builder, part_of_split), sampling)

    # Queries and triplets fit only the images and labels that they were made for.
    whole = not (features.attributes or sampling.limit or features.min_count > 1)
    whole = whole and part_of_split == {"train": TRAIN, "test": TEST}
    carried = shopping100k.MANIPULATIONS if whole and shopping100k.MANIPULATIONS.issubset(available) else ()
    cells = _read_cells(builder, records, {*paths.values(), *carried}, progress=progress)
    columns = _label_features(builder, available, paths, cells, features.min_count)
    catalogue = Catalogue(
        schema=AttributeSchema(tuple(paths), tuple(values for values, _ in columns)),
        images=TfdsImages.from_feature(records, described, features.image_feature, limits.largest_image),
        labels=np.stack([labels for _, labels in columns], axis=1),
        parts=_parts(records, tuple(part_of_split.values()), sampling),
    )
    return shopping100k.add_manipulations(catalogue, cells) if carried else catalogue


def _label_features(
    builder: Any,
    available: Mapping[str, Any],
    paths: Mapping[str, str],
    cells: Mapping[str, Sequence[Any]],
    min_count: int,
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Returns the values and the labels of each attribute.

    Raises:
      DataError: a value is none of its feature's, or an attribute has too few values.
    """
    from gradrev_jax.data.formats.tfds.features import feature_labels

    columns = []
    for attribute, path in paths.items():
        try:
            values, labels = feature_labels(available[path], cells[path], min_count)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(
                f"{builder.data_path}: feature {path!r} has values that are not its own ({error}); prepare "
                "it again"
            ) from error
        _check_choice(builder.name, attribute, values, labels, min_count)
        columns.append((values, labels))
    return columns


def _read_cells(builder: Any, records: Any, paths: set[str], *, progress: bool) -> dict[str, list[Any]]:
    """Returns the values of some features of all records.

    Raises:
      DataError: a file of records is damaged.
    """
    from gradrev_jax.data.formats.tfds.images import read_columns

    try:
        return read_columns(records, builder.info.features, paths, progress=progress)
    except MemoryError:
        raise
    except Exception as error:  # damaged records lead to errors of many types
        raise DataError(f"{builder.data_path} cannot be read: {error}; prepare it again") from error


def attribute_mapping(words: Sequence[str]) -> dict[str, str]:
    """Returns the feature of each attribute, from words of the form ``attribute=feature``.

    Args:
      words: the words; a feature alone, ``y/c``, is the attribute ``c``.

    Raises:
      ConfigError: an attribute stands twice, or is blank.

    Example:
      >>> attribute_mapping(["hat=attributes/Wearing_Hat", "label_shape"])
      {'hat': 'attributes/Wearing_Hat', 'label_shape': 'label_shape'}
    """
    mapping: dict[str, str] = {}
    for word in words:
        attribute, _, feature = word.rpartition("=")
        attribute = attribute or feature.rpartition("/")[2]
        if not attribute or not feature or attribute in mapping:
            raise ConfigError(
                f"`attributes`: {word!r} must say attribute=feature, each attribute once",
                arguments=("attributes",),
            )
        mapping[attribute] = feature
    return mapping


def _attribute_paths(
    name: str, attributes: Mapping[str, str] | None, features: Mapping[str, Any]
) -> dict[str, str]:
    """Returns the path of each attribute's feature; raises a DataError if one cannot be an attribute."""
    from gradrev_jax.data.formats.tfds.features import feature_kind

    usable = sorted(path for path, feature in features.items() if feature_kind(feature))
    paths = dict(attributes or MAPPINGS.get(name, {}))
    if not paths:
        paths = {path: path for path in usable if feature_kind(features[path]) == "class"}
    if not paths:
        raise DataError(
            f"{name} has no classes to be attributes; name others of its features in `attributes`: "
            f"{', '.join(usable) or 'it has none that can be'}",
            arguments=("attributes",),
        )
    for path in paths.values():
        _check_feature(name, path, features, "attributes", usable)
        if path not in usable:
            hint = did_you_mean(path, usable, otherwise=f"it has {', '.join(usable) or 'none'}.")
            raise DataError(
                f"{name}: feature {path!r} cannot be an attribute, being {features[path]}; that takes a "
                f"class, a whole number, a truth value or a text: {hint} Set `attributes`.",
                arguments=("attributes",),
            )
    return paths


def _check_feature(
    name: str, path: str, features: Mapping[str, Any], argument: str, candidates: Sequence[str]
) -> None:
    """Raises a DataError if there is no feature of the path that an argument gives."""
    if path not in features:
        hint = did_you_mean(path, candidates, otherwise=f"it has {', '.join(candidates)}.")
        raise DataError(f"{name} has no feature {path!r}; {hint} Set `{argument}`.", arguments=(argument,))


def _check_image(name: str, path: str, features: Mapping[str, Any]) -> None:
    """Raises a DataError if the feature of a path is not an image."""
    from gradrev_jax.data.formats.tfds.images import is_image

    images = sorted(candidate for candidate, feature in features.items() if is_image(feature))
    _check_feature(name, path, features, "image_feature", images)
    if path not in images:
        found = f"it has {', '.join(images)}" if images else "it has none"
        raise DataError(
            f"{name}: feature {path!r} is no image, encoded or uint8 [H, W, 1 or 3]; {found}. "
            "Set `image_feature`.",
            arguments=("image_feature",),
        )


def _parts(records: Any, part_of_split: Sequence[str], sampling: Sampling) -> dict[str, np.ndarray]:
    """Returns the rows of each part of ``Records``, from their splits, or seeded if there is only one."""
    if len(part_of_split) == 1:
        names = [records.name(row) for row in range(len(records.places))]
        parts = seeded_split(names, sampling.test_fraction, sampling.seed, split_by=sampling.split_by)
    else:
        parts = split_parts(np.array(part_of_split)[records.places[:, 0]])
    for part in (TRAIN, TEST):
        if not len(parts[part]):
            raise DataError(
                f"{records.title}: no image is left for the {part} part; raise `limit` or `test_fraction`",
                arguments=("limit", "test_fraction"),
            )
    return parts


def _check_choice(
    name: str, attribute: str, values: Sequence[str], labels: np.ndarray, min_count: int
) -> None:
    """Raises a DataError unless the images have at least two values of an attribute."""
    occurring = np.unique(labels[labels >= 0]).tolist()
    if len(occurring) < 2:
        found = f"only the value {values[occurring[0]]!r}" if occurring else "no labelled value"
        rare = f" with `min_count` = {min_count}; lower it" if min_count > 1 else ""
        raise DataError(
            f"{name}: attribute {attribute!r} has {found}{rare}: there is nothing to learn or to change. "
            "Leave it out by naming the others in `attributes`, or raise `limit`.",
            arguments=("attributes", "limit", *(["min_count"] if rare else [])),
        )
