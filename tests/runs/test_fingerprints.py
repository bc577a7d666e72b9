import dataclasses

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import PARTS, Catalogue
from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs import array_files
from gradrev_jax.runs.fingerprints import (
    FINGERPRINT_FILE,
    GONE,
    UNKNOWN,
    fingerprint,
    merge_fingerprints,
    read_fingerprint,
    remember_digests,
    save_fingerprint,
)

SCHEMA = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))


@dataclasses.dataclass
class Counted:
    """Images whose content is a word, and how often each was read."""

    contents: dict
    reads: list = dataclasses.field(default_factory=list)

    def __len__(self):
        return len(self.contents)

    def name(self, row):
        return list(self.contents)[row]

    def digest(self, row):
        self.reads.append(row)
        return list(self.contents.values())[row].encode().ljust(16, b".")

    def read(self, row, transform):
        return np.full((transform.size, transform.size, 3), row, np.uint8)


def make(images, known=True):
    """A catalogue of name -> (part, content, color, size); its digests are remembered if ``known``."""
    contents = {name: content for name, (_, content, *_) in images.items()}
    labels = np.array([labels for _, _, *labels in images.values()], np.int32).reshape(-1, 2)
    parts = {
        part: np.array([row for row, (of, *_) in enumerate(images.values()) if of == part], int)
        for part in PARTS
    }
    catalogue = remember_digests(Catalogue(SCHEMA, Counted(contents), labels, parts))
    if known:
        for row in range(len(contents)):
            catalogue.images.digest(row)
    return catalogue


IMAGES = {
    "b.jpg": ("train", "bee", 0, 1),
    "a.jpg": ("train", "ay", 1, -1),
    "v.jpg": ("validation", "vee", 0, 2),
    "ü/t.jpg": ("test", "tee", 1, 0),
}


def test_a_fingerprint_has_names_parts_labels_and_contents():
    made = fingerprint(make(IMAGES))
    assert made.names == ("b.jpg", "a.jpg", "v.jpg", "ü/t.jpg")
    assert made.labels.tolist() == [[0, 1], [1, -1], [0, 2], [1, 0]]
    assert [PARTS[part] for part in made.parts] == ["train", "train", "validation", "test"]
    assert made.trained_on.tolist() == [True, True, True, False]
    assert len(set(made.contents.tolist())) == 4
    assert made.contents[0] == int.from_bytes(b"bee.....", "big")


def test_images_are_read_once_however_often_they_are_asked_for():
    catalogue = make(IMAGES)
    for _ in range(3):
        fingerprint(catalogue)
        catalogue.images.digest(2)
    assert catalogue.images.source.reads == [0, 1, 2, 3]
    assert (fingerprint(make(IMAGES, known=False)).contents == UNKNOWN).all()


def test_what_is_written_is_what_is_read(tmp_path):
    for made in (fingerprint(make(IMAGES)), fingerprint(make({"one\nline.jpg": ("test", "x", -1, -1)}))):
        save_fingerprint(tmp_path, made)
        for found, expected in zip(read_fingerprint(tmp_path), made, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert read_fingerprint(tmp_path / "no run") is None


@pytest.mark.parametrize("content", [b"", b"no zip file", None])
def test_a_damaged_file_is_named(tmp_path, content):
    save_fingerprint(tmp_path, fingerprint(make(IMAGES)))
    whole = (tmp_path / FINGERPRINT_FILE).read_bytes()
    (tmp_path / FINGERPRINT_FILE).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(
        WorkdirError, match=rf"{FINGERPRINT_FILE}, which says what the run was trained on, cannot be read"
    ):
        read_fingerprint(tmp_path)


def test_fifty_thousand_images_take_less_than_five_megabytes(tmp_path, rng):
    """With 24 attributes, and names and contents that nothing compresses."""
    count = 50_000
    names = tuple(f"images/{number:020d}.jpg" for number in rng.integers(0, 10**18, count).tolist())
    made = fingerprint(make(IMAGES))._replace(
        names=names,
        contents=rng.integers(1, 2**63, count).astype(np.uint64),
        labels=rng.integers(-1, 12, (count, 24), dtype=np.int32),
        parts=np.zeros(count, np.uint8),
        trained_on=np.ones(count, bool),
    )
    save_fingerprint(tmp_path, made)
    assert (tmp_path / FINGERPRINT_FILE).stat().st_size < 5e6
    assert read_fingerprint(tmp_path).names == names


def test_what_was_trained_on_stays_so_when_a_run_goes_on():
    before = fingerprint(make(IMAGES))
    later = {
        "a.jpg": ("test", "ay", 1, -1),  # moved
        "ü/t.jpg": ("train", "tee", 1, 0),
        "new.jpg": ("test", "new", 0, 0),
    }
    made = merge_fingerprints(before, fingerprint(make(later)))
    found = dict(
        zip(made.names, zip(made.parts.tolist(), made.trained_on.tolist(), strict=True), strict=True)
    )
    assert found == {
        "a.jpg": (2, True),
        "ü/t.jpg": (0, True),
        "new.jpg": (2, False),
        "b.jpg": (GONE, True),
        "v.jpg": (GONE, True),
    }
    again = merge_fingerprints(made, fingerprint(make({"b.jpg": ("test", "bee", 0, 1)}, known=False)))
    assert again.names[0] == "b.jpg"
    assert (again.parts[0], again.trained_on[0], again.contents[0]) == (2, True, before.contents[0])
    assert set(again.names) == {
        "b.jpg",
        "a.jpg",
        "ü/t.jpg",
        "v.jpg",
    }  # what was never trained on may be forgotten
    assert merge_fingerprints(None, before) is before


GOOD = {
    "names": np.frombuffer(b"a.jpg\0b.jpg", np.uint8),
    "contents": np.arange(2).astype(np.uint64),
    "labels": np.zeros((2, 2), np.int8),
    "parts": np.zeros(2, np.uint8),
    "trained_on": np.ones(2, bool),
}


@pytest.mark.parametrize(
    "changed",
    [
        {"names": np.frombuffer(b"a.jpg", np.uint8)},
        {"names": np.zeros(2, np.float32)},
        {"contents": np.zeros(3, np.uint64)},
        {"contents": np.zeros(2, np.int64)},
        {"labels": np.zeros(2, np.int8)},
        {"labels": np.full((2, 2), -2, np.int8)},
        {"labels": np.zeros((1, 2), np.int8)},
        {"parts": np.full(2, GONE + 1, np.uint8)},
        {"parts": np.zeros((2, 1), np.uint8)},
        {"trained_on": np.ones(2, np.uint8)},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_damage(tmp_path, changed):
    np.savez(tmp_path / FINGERPRINT_FILE, **GOOD)
    assert read_fingerprint(tmp_path).names == ("a.jpg", "b.jpg")
    np.savez(tmp_path / FINGERPRINT_FILE, **{**GOOD, **changed})
    with pytest.raises(
        WorkdirError, match=f"{FINGERPRINT_FILE}, which says what the run was trained on, cannot be read"
    ):
        read_fingerprint(tmp_path)


def test_a_small_file_cannot_ask_for_gigabytes(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / FINGERPRINT_FILE, **{**GOOD, "contents": np.zeros(10**6, np.uint64)})
    monkeypatch.setattr(array_files, "LARGEST_ARRAYS", 10**6)
    with pytest.raises(WorkdirError, match="it has 8,00.,... bytes of arrays, at most 1,000,000 are read"):
        read_fingerprint(tmp_path)
