"""Reading a catalogue from a data set that TensorFlow Datasets (TFDS) has prepared; without TensorFlow.

Without TensorFlow, TFDS reads what it prepared with ``file_format="array_record"``, and that alone. A data
set is never downloaded or prepared here: that is TFDS's own job, and the error says by which command.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TEST, TRAIN, Catalogue, SplitBy, seeded_split, split_parts
from gradrev_jax.data.formats.tfds.builders import assign_parts, import_tfds, prepared_builder, split_records
from gradrev_jax.errors import ConfigError, DataError

FACES = (  # of CelebA's 40 attributes those that are plain to see
    *("Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Eyeglasses"),
    *("Male", "Mustache", "Smiling", "Wearing_Hat", "Young"),
)

# Attribute -> feature, of data sets that hold more than attributes.
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


def read_tfds(
    name: str,
    *,
    data_dir: str | None = None,
    attributes: Mapping[str, str] | None = None,
    image_feature: str = "image",
    splits: Sequence[str] = (),
    test_fraction: float = 0.2,
    min_count: int = 1,
    limit: int | None = None,
    seed: int = 0,
    split_by: SplitBy = "image",
    progress: bool = True,
) -> Catalogue:
    """Catalogue of a data set that TFDS has prepared.

    Args:
      name: as TFDS has it: ``shapes3d``, or with a config and version, ``glue/cola:1.0.0``.
      data_dir: folder that TFDS prepares data sets in; None: TFDS's own default.
      attributes: from attribute to feature, ``attributes/Smiling`` for one within another. Classes, whole
        numbers, truth values and texts can be attributes, see ``feature_labels``. None: those of
        ``MAPPINGS``, or all classes.
      image_feature: the image: encoded, or an array uint8 [H, W, 1 or 3].
      splits: those of the train and test part, or of train, validation and test, as TFDS writes them
        (``train[:80%]``). A single one has a seeded test part split off. (): those called train, validation
        and test; where there is no test, validation is the test part; where there is but one, it is split.
      test_fraction: share of the test part that is split off.
      min_count: values that fewer images have become "not labelled".
      limit: images that are drawn, with the seed, from all splits together; None: all.
      seed: of the seeded test part and of the images drawn.
      split_by: how the seeded test part is chosen, see ``catalogue.drawn``.
      progress: whether bars are shown where reading takes more than seconds.

    Returns:
      The catalogue, training images first. Where all of Shopping100k is read, its queries and triplets come
      with it.

    Raises:
      ConfigError: TFDS is not installed, or limit is below 1.
      DataError: the data set is unknown or not prepared, or has no such feature or split; the message says
        what there is.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"data.limit = {limit}: at least 1")
    import_tfds()
    # What imports TFDS itself can be imported only now. The import makes Shopping100k known to TFDS.
    from gradrev_jax.data.formats.tfds import shopping100k
    from gradrev_jax.data.formats.tfds.features import feature_labels, leaves
    from gradrev_jax.data.formats.tfds.images import Records, TfdsImages, read_columns

    builder = prepared_builder(name, data_dir)
    features = leaves(builder.info.features)
    paths = _attribute_paths(builder.name, attributes, features)
    _check_image(builder.name, image_feature, features)
    part_of_split = assign_parts(builder, splits)
    records = Records.drawn(builder.name, split_records(builder, part_of_split), limit=limit, seed=seed)

    # Queries and triplets are those of the images and labels that they were made for, or none.
    whole = not (attributes or limit or min_count > 1) and part_of_split == {"train": TRAIN, "test": TEST}
    carried = shopping100k.MANIPULATIONS if whole and shopping100k.MANIPULATIONS.issubset(features) else ()
    try:
        cells = read_columns(records, builder.info.features, {*paths.values(), *carried}, progress=progress)
    except (RuntimeError, OSError) as error:  # what ArrayRecord raises on damaged files
        raise DataError(f"{builder.data_path} cannot be read: {error}; prepare it again") from error
    columns = [feature_labels(features[path], cells[path], min_count) for path in paths.values()]
    for attribute, (values, labels) in zip(paths, columns, strict=True):
        _check_choice(builder.name, attribute, values, labels, min_count)
    catalogue = Catalogue(
        schema=AttributeSchema(tuple(paths), tuple(values for values, _ in columns)),
        images=TfdsImages.of(records, builder.info.features, image_feature),
        labels=np.stack([labels for _, labels in columns], axis=1),
        parts=_parts(records, tuple(part_of_split.values()), test_fraction, seed, split_by),
    )
    return shopping100k.add_manipulations(catalogue, cells) if carried else catalogue


def attribute_mapping(words: Sequence[str]) -> dict[str, str]:
    """From ``attribute=feature`` words to a mapping; a feature alone names its attribute itself.

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
                f"data.tfds_attributes: {word!r} must say attribute=feature, each attribute once"
            )
        mapping[attribute] = feature
    return mapping


def _attribute_paths(
    name: str, attributes: Mapping[str, str] | None, features: Mapping[str, Any]
) -> dict[str, str]:
    """From attribute to the path of its feature, all of them there and fit to be one."""
    from gradrev_jax.data.formats.tfds.features import feature_kind

    fit = sorted(path for path, feature in features.items() if feature_kind(feature))
    paths = dict(attributes or MAPPINGS.get(name, {}))
    if not paths:
        paths = {path: path for path in fit if feature_kind(features[path]) == "class"}
    if not paths:
        raise DataError(
            f"{name} has no classes to be attributes; name others of its features in data.tfds_attributes: "
            f"{', '.join(fit) or 'it has none that can be'}"
        )
    for path in paths.values():
        _existing(name, path, features, "data.tfds_attributes", fit)
        if path not in fit:
            near = difflib.get_close_matches(path, fit, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(fit) or 'none'}."
            raise DataError(
                f"{name}: feature {path!r} cannot be an attribute, being {features[path]}; that takes a "
                f"class, a whole number, a truth value or a text: {hint} Set data.tfds_attributes."
            )
    return paths


def _existing(
    name: str, path: str, features: Mapping[str, Any], field: str, candidates: Sequence[str]
) -> None:
    if path not in features:
        near = difflib.get_close_matches(path, candidates, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(candidates)}."
        raise DataError(f"{name} has no feature {path!r}; {hint} Set {field}.")


def _check_image(name: str, path: str, features: Mapping[str, Any]) -> None:
    from gradrev_jax.data.formats.tfds.images import is_image

    images = sorted(candidate for candidate, feature in features.items() if is_image(feature))
    _existing(name, path, features, "data.tfds_image", images)
    if path not in images:
        there = f"it has {', '.join(images)}" if images else "it has none"
        raise DataError(
            f"{name}: feature {path!r} is no image, encoded or uint8 [H, W, 1 or 3]; {there}. "
            "Set data.tfds_image."
        )


def _parts(
    records: Any, part_of_split: Sequence[str], test_fraction: float, seed: int, split_by: SplitBy
) -> dict[str, np.ndarray]:
    """Rows of each part of ``Records``, from the split of each, or seeded where there is one."""
    if len(part_of_split) == 1:
        names = [records.name(row) for row in range(len(records.places))]
        parts = seeded_split(names, test_fraction, seed, split_by=split_by)
    else:
        parts = split_parts(np.array(part_of_split)[records.places[:, 0]])
    for part in (TRAIN, TEST):
        if not len(parts[part]):
            raise DataError(
                f"{records.title}: no image is left for the {part} part; raise data.limit or test_fraction"
            )
    return parts


def _check_choice(
    name: str, attribute: str, values: Sequence[str], labels: np.ndarray, min_count: int
) -> None:
    """Raise unless the images have two values of an attribute at least."""
    occurring = np.unique(labels[labels >= 0]).tolist()
    if len(occurring) < 2:
        found = f"only the value {values[occurring[0]]!r}" if occurring else "no labelled value"
        rare = f" with data.min_count = {min_count}; lower it" if min_count > 1 else ""
        raise DataError(
            f"{name}: attribute {attribute!r} has {found}{rare}: there is nothing to learn or to change. "
            "Leave it out by naming the others in data.tfds_attributes, or raise data.limit."
        )
