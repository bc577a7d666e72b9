import json
import os
import pathlib
import time

import numpy as np
import pytest

from gradrev_jax.data.catalogue import Catalogue
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.serving.gallery import (
    MOST_GALLERIES,
    EncodedGallery,
    gallery_provenance,
    keep_gallery,
    kept_folder,
    open_gallery,
)
from tests.encoded_images import SCHEMA, material
from tests.serving.test_space import make

OF = {"version": 1, "count": 6}
PARTS = ("test",)


@pytest.fixture
def gallery(rng):
    space = make(material(rng, missing="ignore"), "posterior")
    blocks = rng.normal(size=(6, *space.fitted.memory.shape[1:])).astype(np.float32)
    logits = rng.normal(size=(6, SCHEMA.num_values)).astype(np.float32)
    return EncodedGallery(space, "encoder", 7, blocks, logits)


def test_what_is_kept_is_opened(tmp_path, gallery, capsys):
    assert open_gallery(tmp_path, PARTS, OF) is None
    keep_gallery(tmp_path, PARTS, OF, gallery)
    opened = open_gallery(tmp_path, PARTS, OF)
    assert (opened.stage, opened.step) == ("encoder", 7)
    np.testing.assert_array_equal(opened.blocks, gallery.blocks)
    np.testing.assert_array_equal(opened.own_logits, gallery.own_logits)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("blocks.npy", b""),
        ("blocks.npy", b"\x93NUMPY\1\0\x08\0{'descr'"),
        ("blocks.npy", np.zeros((6, 2, 2), np.float32)),
        ("own_logits.npy", np.zeros((6, 1), np.float32)),
        ("own_logits.npy", np.zeros((6, SCHEMA.num_values), np.float64)),
        ("gallery.json", {"made_of": OF, "stage": "other", "step": 7}),
        ("gallery.json", {"made_of": OF, "stage": "encoder", "step": float("inf")}),
        ("gallery.json", [3]),
        ("gallery.json", b"[" * 100_000),
        ("space.safetensors", b""),
    ],
)
def test_a_damaged_one_is_encoded_again(tmp_path, gallery, capsys, file, content):
    keep_gallery(tmp_path, PARTS, OF, gallery)
    path = kept_folder(tmp_path, PARTS, OF) / file
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert open_gallery(tmp_path, PARTS, OF) is None
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("linked", ["serving", kept_folder(pathlib.Path(), PARTS, OF).as_posix()])
def test_nothing_is_read_or_written_where_a_strangers_folder_links_to(tmp_path, gallery, capsys, linked):
    mine, model = tmp_path / "mine", tmp_path / "model"
    for folder in (mine, model):
        folder.mkdir()
    keep_gallery(mine, PARTS, OF, gallery)
    before = sorted(mine.rglob("*"))
    (model / linked).parent.mkdir(exist_ok=True)
    (model / linked).symlink_to(mine / linked)
    assert open_gallery(model, PARTS, OF) is None
    keep_gallery(model, PARTS, OF, gallery._replace(step=8))
    assert "is a link to another folder" in capsys.readouterr().err
    assert sorted(mine.rglob("*")) == before
    assert open_gallery(mine, PARTS, OF).step == 7


@pytest.fixture
def made(tmp_path):
    """A run's folder, and what a gallery of it is made of."""
    run = tmp_path / "run"
    images = ImageFiles(tmp_path, ("a.jpg",))
    parts = {"train": np.arange(0), "validation": np.arange(0), "test": np.arange(1)}
    catalogue = Catalogue(SCHEMA, images, np.zeros((1, len(SCHEMA.names)), np.int32), parts)
    for step in (1, 2):
        (run / "checkpoints" / "encoder" / f"step_{step}").mkdir(parents=True)
    (run / "model.safetensors").touch()
    return run, lambda: gallery_provenance(run, {}, catalogue, np.arange(1), {"step": "best"})


def test_only_whole_checkpoints_are_what_a_gallery_is_made_of(made):
    run, of = made
    before = of()
    kept = ["checkpoints/encoder/step_1", "checkpoints/encoder/step_2", "model.safetensors"]
    assert [name for name, _ in before["weights"]] == kept
    for name in ("removed", "damaged", "step_3.orbax-checkpoint-tmp", "step_4.orbax-checkpoint-tmp-17"):
        (run / "checkpoints" / "encoder" / name / "step_0").mkdir(parents=True)
    assert of() == before
    (run / "checkpoints" / "encoder" / "step_5").mkdir()
    assert of() != before


@pytest.mark.parametrize("when", ["listed", "images"])
def test_a_checkpoint_that_training_removes_meanwhile_is_left_out(made, monkeypatch, when):
    """Found by reading: opening a gallery beside a training ended with FileNotFoundError."""
    run, of = made
    folder = run / "checkpoints" / "encoder" / "step_1"
    glob, name = pathlib.Path.glob, ImageFiles.name

    def remove():
        if folder.exists():
            folder.rename(run / "gone")

    def listed(path, pattern):
        yield from list(glob(path, pattern))
        remove()

    if when == "listed":
        monkeypatch.setattr(pathlib.Path, "glob", listed)
    else:
        monkeypatch.setattr(ImageFiles, "name", lambda images, row: remove() or name(images, row))
    names = [name for name, _ in of()["weights"]]
    assert names[-2:] == ["checkpoints/encoder/step_2", "model.safetensors"]
    assert not folder.exists()
    assert len(names) == (2 if when == "listed" else 3)


def test_an_encoded_gallery_with_nan_is_encoded_again(tmp_path, gallery, capsys):
    """Found by use: pages of the API ended with status 500."""
    keep_gallery(tmp_path, PARTS, OF, gallery)
    logits = gallery.own_logits.copy()
    logits[0] = np.nan
    np.save(kept_folder(tmp_path, PARTS, OF) / "own_logits.npy", logits)
    assert open_gallery(tmp_path, PARTS, OF) is None
    assert "gives numbers that are not finite" in capsys.readouterr().err


def test_a_gallery_of_an_earlier_state_is_encoded_again(tmp_path, gallery, capsys):
    keep_gallery(tmp_path, PARTS, OF, gallery)
    assert open_gallery(tmp_path, PARTS, OF | {"count": 7}) is None
    assert "is of an earlier state of the run" in capsys.readouterr().err


def test_galleries_of_several_settings_stay_beside_each_other(tmp_path, gallery, capsys):
    """Found by use: two commands with other flags threw each other's encoding away at every start."""
    (tmp_path / "serving" / "test").mkdir(parents=True)  # of an earlier version, the oldest
    keep_gallery(tmp_path, ("test", "train"), OF, gallery)
    settings = [OF | {"config": str(number)} for number in range(MOST_GALLERIES + 1)]
    for number, each in enumerate(settings):
        keep_gallery(tmp_path, PARTS, each, gallery._replace(step=number))
        time.sleep(0.01)  # so that no two are written at one time
    assert open_gallery(tmp_path, PARTS, settings[0]) is None
    for number, each in enumerate(settings[1:], start=1):
        assert open_gallery(tmp_path, PARTS, each).step == number
    assert len(list((tmp_path / "serving").iterdir())) == MOST_GALLERIES + 1, "and the one of other parts"
    assert not capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "test"])
def test_labels_of_every_part_count(tmp_path, part):
    """Found by use: prototypes come from training labels, and were those of before."""
    labels = np.zeros((3, len(SCHEMA.names)), np.int32)
    parts = {name: np.array([n]) for n, name in enumerate(("train", "validation", "test"))}
    images = ImageFiles(tmp_path, ("a.jpg", "b.jpg", "c.jpg"))

    def provenance():
        catalogue = Catalogue(SCHEMA, images, labels, parts)
        return gallery_provenance(tmp_path, {}, catalogue, parts["test"], {"step": "best"})

    before = provenance()
    assert provenance() == before
    labels[parts[part], 0] = 1
    assert provenance() != before


@pytest.mark.parametrize(
    ("part", "validation", "is_other"),
    [("train", [1], True), ("validation", [1], True), ("test", [1], False), ("test", [], True)],
)
def test_a_space_is_fitted_to_training_and_validation_images(tmp_path, part, validation, is_other):
    labels = np.zeros((3, len(SCHEMA.names)), np.int32)
    parts = {"train": np.array([0]), "validation": np.array(validation, int), "test": np.array([2])}
    catalogue = Catalogue(SCHEMA, ImageFiles(tmp_path, ("a.jpg", "b.jpg", "c.jpg")), labels, parts)

    def fitted_to(rows=parts["test"], step="best"):
        return gallery_provenance(tmp_path, {}, catalogue, rows, {"step": step})["fitted_to"]

    before = fitted_to()
    assert fitted_to(rows=np.arange(3)) == before, "whatever is shown"
    assert fitted_to(step="latest") != before
    labels[parts[part], 0] = 1
    assert (fitted_to() != before) == is_other


def test_a_file_of_vectors_that_is_replaced_is_noticed(made, tmp_path):
    run, _ = made
    vectors = tmp_path / "vectors.npy"
    parts = {name: np.arange(0) for name in ("train", "validation", "test")}
    labels = np.zeros((1, len(SCHEMA.names)), np.int32)
    catalogue = Catalogue(SCHEMA, ImageFiles(tmp_path, ("a.jpg",)), labels, parts)
    found = []
    for value in (0, 1):
        np.save(vectors, np.full((1, 4), value, np.float32))
        os.utime(vectors, (value, value))
        config = {"data": {"embeddings": str(vectors)}}
        found.append(gallery_provenance(run, config, catalogue, np.arange(1), {})["vectors"])
    assert found[0] != found[1]


def test_a_full_disk_is_named(tmp_path, gallery, capsys, monkeypatch):
    def short(*_):
        raise OSError("34000 requested and 33760 written")  # as NumPy says it

    monkeypatch.setattr(np, "save", short)
    assert not keep_gallery(tmp_path, PARTS, OF, gallery)
    assert "No space left on device (34000 requested and 33760 written)" in capsys.readouterr().err


def test_what_a_link_leads_to_is_not_removed_as_the_oldest(tmp_path, gallery):
    """A stranger's model may have links into runs of others."""
    mine, model = tmp_path / "mine", tmp_path / "model"
    for folder in (mine, model):
        folder.mkdir()
    keep_gallery(mine, PARTS, OF, gallery)
    before = sorted(mine.rglob("*"))
    (model / "serving").mkdir()
    (model / "serving" / "test_0").symlink_to(kept_folder(mine, PARTS, OF))
    for number in range(MOST_GALLERIES + 1):
        time.sleep(0.01)
        keep_gallery(model, PARTS, OF | {"config": str(number)}, gallery)
    assert sorted(mine.rglob("*")) == before
    assert len(list((model / "serving").iterdir())) == MOST_GALLERIES + 1, "and the link"
