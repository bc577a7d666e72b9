"""Compares a run's catalogue with what it was trained on, and decides whether it may still be used."""

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import PARTS, TEST
from gradrev_jax.errors import DataError, WorkdirError, join_names
from gradrev_jax.runs.fingerprints import FINGERPRINT_FILE, GONE, UNKNOWN, Fingerprint, rows_before


class Drift(NamedTuple):
    """Names the images in which a catalogue differs from what it was, with what happened to each.

    Attributes:
      added: the images that are new.
      removed: images that are gone.
      moved: images that are in another part.
      relabelled: images with other labels.
      replaced: images with another content under their old name.
      trained: whether any of these changes concerns the train or validation part, as it was or as it is now.
      leaked: test images that were trained on, under this name or another.
      reordered: whether images that are trained on come in another order.
    """

    added: list[str]
    removed: list[str]
    moved: list[str]
    relabelled: list[str]
    replaced: list[str]
    trained: bool
    leaked: list[str]
    reordered: bool

    def __bool__(self) -> bool:
        """Returns whether any image is named."""
        return any(getattr(self, kind) for kind in (*KINDS, "leaked"))


KINDS = {  # the fields of ``Drift`` that name changed images, in words
    "added": "added",
    "removed": "no longer there",
    "moved": "moved to another part",
    "relabelled": "labelled otherwise",
    "replaced": "replaced by another image of the same name",
}


def compare(before: Fingerprint, now: Fingerprint, schema: AttributeSchema) -> Drift:
    """Compares a catalogue with what it was.

    Args:
      before: its fingerprint then.
      now: its fingerprint of today; contents that either does not know are not compared.
      schema: the attributes of both catalogues.
    """
    rows = rows_before(before, now)
    was_there = (rows >= 0) & (before.parts[rows] != GONE)
    old = np.where(was_there, rows, 0)
    moved = was_there & (before.parts[old] != now.parts)
    relabelled = was_there & (before.labels[old] != now.labels).any(axis=1)
    known = (before.contents[old] != UNKNOWN) & (now.contents != UNKNOWN)
    replaced = was_there & known & (before.contents[old] != now.contents)
    present = set(now.names)
    removed = [
        row for row, name in enumerate(before.names) if before.parts[row] != GONE and name not in present
    ]
    changed = ~was_there | moved | relabelled | replaced
    in_training = (now.parts < PARTS.index(TEST)) | (was_there & (before.parts[old] < PARTS.index(TEST)))
    return Drift(
        added=[f"{now.names[row]} ({PARTS[now.parts[row]]})" for row in _numbers(~was_there)],
        removed=[f"{before.names[row]} ({PARTS[before.parts[row]]})" for row in removed],
        moved=[
            f"{now.names[row]} ({PARTS[before.parts[old[row]]]} -> {PARTS[now.parts[row]]})"
            for row in _numbers(moved)
        ],
        relabelled=[
            f"{now.names[row]} ({_relabelled(before.labels[old[row]], now.labels[row], schema)})"
            for row in _numbers(relabelled)
        ],
        replaced=[now.names[row] for row in _numbers(replaced)],
        trained=bool((changed & in_training).any())
        or any(before.parts[row] < PARTS.index(TEST) for row in removed),
        leaked=_leaked(before, now, rows, was_there),
        reordered=bool((np.diff(rows[was_there & in_training]) < 0).any()),
    )


def _leaked(
    before: Fingerprint, now: Fingerprint, rows: Int[np.ndarray, " M"], was_there: Bool[np.ndarray, " M"]
) -> list[str]:
    """Returns test images that were trained on, except those that were in both parts from the start."""
    is_test = now.parts == PARTS.index(TEST)
    old = np.where(rows >= 0, rows, 0)
    by_name = is_test & (rows >= 0) & before.trained_on[old]
    trained = _trained_contents(before)
    was_test = was_there & (before.parts[old] == PARTS.index(TEST))
    as_before = was_test & (before.contents[old] == now.contents)
    leaked = [now.names[row] for row in _numbers(by_name)]
    return leaked + [
        f"{now.names[row]} (was {trained[int(now.contents[row])]})"
        for row in _numbers(is_test & ~by_name & ~as_before)
        if int(now.contents[row]) in trained
    ]


def copies_of_trained_images(now: Fingerprint) -> list[str]:
    """Returns the test images whose content is that of a training or validation image, with its name."""
    trained = _trained_contents(now)
    return [
        f"{name} (= {trained[int(content)]})"
        for content, name, is_trained in zip(now.contents, now.names, now.trained_on, strict=True)
        if not is_trained and int(content) in trained
    ]


def copies_sentences(now: Fingerprint) -> list[str]:
    """Returns a sentence on ``copies_of_trained_images``, if there are any."""
    copies = copies_of_trained_images(now)
    return (
        [f"{images_are(copies)} in the test part and trained on, too: {join_names(copies)}"] if copies else []
    )


def _trained_contents(known: Fingerprint) -> dict[int, str]:
    """Returns the hash of each content that was trained on, with a name of the image."""
    return {
        int(content): name
        for content, name, is_trained in zip(known.contents, known.names, known.trained_on, strict=True)
        if is_trained and content != UNKNOWN
    }


def drift_sentences(drift: Drift) -> Iterator[str]:
    """Yields a sentence for each kind of change: how many images, and the first of them."""
    for kind, words in KINDS.items():
        images = getattr(drift, kind)
        if images:
            yield f"{images_are(images)} {words}: {join_names(images)}"


def images_are(images: Sequence[str]) -> str:
    """Returns a number of images in words.

    Example:
      >>> images_are(["a.jpg"]), images_are(["a.jpg", "b.jpg"])
      ('1 image is', '2 images are')
    """
    return "1 image is" if len(images) == 1 else f"{len(images):,} images are"


def _numbers(mask: Bool[np.ndarray, " M"]) -> Iterable[int]:
    return map(int, np.flatnonzero(mask))


def _relabelled(old: Int[np.ndarray, " N"], new: Int[np.ndarray, " N"], schema: AttributeSchema) -> str:
    """Returns the labels that changed, as ``color: red -> blue``."""

    def value(n: int, label: int) -> str:
        return schema.values[n][label] if label >= 0 else "not labelled"

    return ", ".join(
        f"{schema.names[n]}: {value(n, int(old[n]))} -> {value(n, int(new[n]))}"
        for n in np.flatnonzero(old != new).tolist()
    )


def check_resumed(
    before: Fingerprint, now: Fingerprint, schema: AttributeSchema, directory: pathlib.Path, *, accept: bool
) -> list[str]:
    """Raises unless a run may go on with a catalogue.

    Args:
      before: the run's fingerprint.
      now: the catalogue's.
      schema: the attributes of both catalogues.
      directory: the run's folder, for the message.
      accept: whether it may have changed in what is trained on.

    Returns:
      What has changed all the same, a sentence each.

    Raises:
      WorkdirError: training images, or those held out of them, are not what they were.
    """
    _check_labels(before, schema, directory)
    drift = compare(before, now, schema)
    sentences = list(drift_sentences(drift))
    if drift.trained and not accept:
        lines = "\n".join(f"  {sentence}" for sentence in sentences)
        raise WorkdirError(
            f"the catalogue is not the one that {directory} was trained on so far:\n{lines}\n"
            "Restore it to end in the same parameters; or start afresh in another --workdir; or go on with "
            "it as it is now: --config.data.accept_changes=true"
        )
    # A run whose test images were trained on could never be evaluated.
    _check_not_leaked(drift, directory, "--config.data.root=FOLDER")
    if drift.reordered:
        sentences.append(
            "the training images come in another order, and batches are drawn by their places: the run ends "
            "in other parameters than in the order of before"
        )
    return sentences


def check_evaluated(
    before: Fingerprint, now: Fingerprint, schema: AttributeSchema, directory: pathlib.Path
) -> list[str]:
    """Raises where a test image was trained on.

    Args:
      before: the run's fingerprint.
      now: the catalogue's.
      schema: the attributes of both catalogues.
      directory: the run's folder, for the message.

    Returns:
      What else has changed, a sentence each, and which test images equal training images since then.

    Raises:
      DataError: such images are there.
      WorkdirError: the run's fingerprint is of another schema.
    """
    _check_labels(before, schema, directory)
    drift = compare(before, now, schema)
    _check_not_leaked(drift, directory, "--data.root=FOLDER")
    return [*drift_sentences(drift), *copies_sentences(before)]


def _check_not_leaked(drift: Drift, directory: pathlib.Path, flag: str) -> None:
    if drift.leaked:
        raise DataError(
            f"{images_are(drift.leaked)} in the test part that {directory} was trained on: "
            f"{join_names(drift.leaked)}. Give them back their part, or take them out of the test part; or "
            f"point to the catalogue that it was trained on ({flag}), or train again in another --workdir."
        )


def _check_labels(before: Fingerprint, schema: AttributeSchema, directory: pathlib.Path) -> None:
    """Raises unless the labels of a fingerprint are some of a schema."""
    labels = before.labels
    if labels.shape[1] != schema.num_attributes or (labels >= np.asarray(schema.sizes)).any():
        raise WorkdirError(
            f"{directory / FINGERPRINT_FILE} has labels of other attributes than the run; restore it from a "
            "copy, or train again in another --workdir"
        )
