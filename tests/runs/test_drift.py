import pathlib

import numpy as np
import pytest

from gradrev_jax.errors import DataError, WorkdirError, join_names
from gradrev_jax.runs.drift import (
    check_evaluated,
    check_resumed,
    compare,
    copies_of_trained_images,
    drift_sentences,
)
from gradrev_jax.runs.fingerprints import fingerprint, merge_fingerprints
from tests.runs.test_fingerprints import IMAGES, SCHEMA, make

RUN = pathlib.Path("runs/mine")
MOVED, RELABELLED = "1 image is moved to another part", "1 image is labelled otherwise"
REPLACED = "1 image is replaced by another image of the same name"


def drift(now, before=IMAGES, known=True):
    return compare(fingerprint(make(before)), fingerprint(make(now, known)), SCHEMA)


def with_(**changes):
    """The images, some of them changed, under names without their ending; None: gone."""
    images = dict(IMAGES)
    for name, image in changes.items():
        name = {"t": "ü/t"}.get(name, name)
        if image is None:
            del images[f"{name}.jpg"]
        else:
            images[f"{name}.jpg"] = image
    return images


def test_the_same_catalogue_has_not_changed_whatever_its_order():
    assert not drift(IMAGES)
    assert not drift(dict(reversed(IMAGES.items())))
    assert not drift(IMAGES, known=False)


@pytest.mark.parametrize(
    ("now", "sentence", "trained"),
    [
        (with_(new=("train", "new", 0, 0)), "1 image is added: new.jpg (train)", True),
        (with_(new=("test", "new", 0, 0)), "1 image is added: new.jpg (test)", False),
        (with_(b=None), "1 image is no longer there: b.jpg (train)", True),
        (with_(t=None), "1 image is no longer there: ü/t.jpg (test)", False),
        (
            with_(v=("train", "vee", 0, 2)),
            f"{MOVED}: v.jpg (validation -> train)",
            True,
        ),
        (with_(t=("train", "tee", 1, 0)), f"{MOVED}: ü/t.jpg (test -> train)", True),
        (
            with_(a=("train", "ay", 0, 2)),
            "1 image is labelled otherwise: a.jpg (color: red -> blue, size: not labelled -> l)",
            True,
        ),
        (
            with_(t=("test", "tee", 1, -1)),
            f"{RELABELLED}: ü/t.jpg (size: s -> not labelled)",
            False,
        ),
        (
            with_(v=("validation", "other", 0, 2)),
            f"{REPLACED}: v.jpg",
            True,
        ),
        (
            with_(t=("test", "other", 1, 0)),
            f"{REPLACED}: ü/t.jpg",
            False,
        ),
    ],
)
def test_each_change_is_named_and_known_to_concern_training_or_not(now, sentence, trained):
    found = drift(now)
    assert list(drift_sentences(found)) == [sentence]
    assert found.trained == trained
    assert found.leaked == []


def test_what_was_not_read_is_not_taken_for_replaced():
    assert not drift(with_(v=("validation", "other", 0, 2)), known=False)


def test_only_what_concerns_training_stops_a_run(capsys):
    before = fingerprint(make(IMAGES))
    grown = fingerprint(make(with_(new=("test", "new", 0, 0))))
    assert check_resumed(before, grown, SCHEMA, RUN, accept=False) == ["1 image is added: new.jpg (test)"]
    fewer = fingerprint(make(with_(b=None, new=("test", "new", 0, 0))))
    with pytest.raises(WorkdirError) as error:
        check_resumed(before, fewer, SCHEMA, RUN, accept=False)
    assert str(error.value).splitlines() == [
        "the catalogue is not the one that runs/mine was trained on so far:",
        "  1 image is added: new.jpg (test)",
        "  1 image is no longer there: b.jpg (train)",
        "Restore it to end in the same parameters; or start afresh in another --workdir; or go on with it as "
        "it is now: --config.data.accept_changes=true",
    ]
    assert len(check_resumed(before, fewer, SCHEMA, RUN, accept=True)) == 2


@pytest.mark.parametrize(
    ("now", "leaked"),
    [
        (with_(a=("test", "ay", 1, -1)), "a.jpg"),
        (with_(v=("test", "vee", 0, 2)), "v.jpg"),  # it chose the checkpoint
        (with_(a=None, copy=("test", "ay", 1, -1)), "copy.jpg (was a.jpg)"),
        (with_(copy=("test", "vee", 1, -1)), "copy.jpg (was v.jpg)"),
        (with_(t=("test", "bee", 1, 0)), "ü/t.jpg (was b.jpg)"),  # replaced by what was trained on
    ],
)
def test_no_test_image_may_have_been_trained_on(now, leaked):
    assert drift(now).leaked == [leaked]
    with pytest.raises(DataError) as error:
        check_evaluated(fingerprint(make(IMAGES)), fingerprint(make(now)), SCHEMA, RUN)
    message = str(error.value)
    assert message.startswith(f"1 image is in the test part that runs/mine was trained on: {leaked}. ")
    assert "--data.root=FOLDER" in message
    assert "train again in another --workdir" in message


def test_copies_that_were_in_both_parts_from_the_start_are_told_and_do_not_stop_anything():
    twice = with_(t=("test", "ay", 1, 0))
    assert copies_of_trained_images(fingerprint(make(twice))) == ["ü/t.jpg (= a.jpg)"]
    assert drift(twice, before=twice).leaked == []
    assert copies_of_trained_images(fingerprint(make(IMAGES))) == []


def test_what_was_once_trained_on_is_never_tested():
    """Also after the run has gone on without it."""
    without = with_(a=None)
    went_on = merge_fingerprints(fingerprint(make(IMAGES)), fingerprint(make(without)))
    back = fingerprint(make(with_(a=("test", "ay", 1, -1))))
    assert compare(went_on, back, SCHEMA).leaked == ["a.jpg"]
    renamed = fingerprint(make({**without, "z.jpg": ("test", "ay", 1, -1)}))
    assert compare(went_on, renamed, SCHEMA).leaked == ["z.jpg (was a.jpg)"]
    assert list(drift_sentences(compare(went_on, fingerprint(make(without)), SCHEMA))) == []


def test_an_evaluation_goes_on_with_all_other_changes():
    before = fingerprint(make(IMAGES))
    now = fingerprint(make(with_(b=None, a=("train", "ay", 0, -1), new=("test", "new", 0, 0))))
    assert check_evaluated(before, now, SCHEMA, RUN) == [
        "1 image is added: new.jpg (test)",
        "1 image is no longer there: b.jpg (train)",
        "1 image is labelled otherwise: a.jpg (color: red -> blue)",
    ]


def test_ten_images_are_named_and_the_others_counted():
    images = [f"{number}.jpg" for number in range(1234)]
    assert join_names(images[:10]) == ", ".join(images[:10])
    assert join_names(images) == ", ".join(images[:10]) + " and 1,224 more"
    many = {**IMAGES, **{name: ("test", name, 0, 0) for name in images}}
    (sentence,) = drift_sentences(drift(many))
    assert sentence.startswith("1,234 images are added: 0.jpg (test), 1.jpg (test), ")


@pytest.mark.parametrize("labels", [np.full((len(IMAGES), 2), 5), np.zeros((len(IMAGES), 3), int)])
def test_labels_of_other_attributes_are_damage(labels):
    before = fingerprint(make(IMAGES))._replace(labels=labels.astype(np.int32))
    for check in (check_evaluated, lambda *each: check_resumed(*each, accept=True)):
        with pytest.raises(WorkdirError, match="catalogue.npz has labels of other attributes than the run"):
            check(before, fingerprint(make(IMAGES)), SCHEMA, RUN)


def test_accepted_changes_never_lead_to_a_run_that_cannot_be_evaluated():
    before, moved = fingerprint(make(IMAGES)), fingerprint(make(with_(a=("test", "ay", 1, -1))))
    with pytest.raises(DataError, match="in the test part that runs/mine was trained on: a.jpg"):
        check_resumed(before, moved, SCHEMA, RUN, accept=True)
