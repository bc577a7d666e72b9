"""A model over a gallery of whoever opens it, whose labels need not be the model's."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from gradrev_jax import Retriever
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import Catalogue
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.errors import ConfigError, DataError, WorkdirError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.serving.gallery_catalogue import relabel

PARTS = ("train", "validation", "test")


@pytest.fixture
def photographs(tmp_path):
    """A folder of photographs, whose table knows other attributes and values."""
    rng = np.random.default_rng(0)
    lines = ["image,color,brand"]
    for row in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,{['red', 'teal', ''][row % 3]},{'ab'[row % 2]}")
    (tmp_path / "attributes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_model_opens_over_photographs_of_ones_own(small_model, photographs, capsys):
    data = {"format": "table", "root": str(photographs), "split_column": ""}
    shop = Retriever.open(small_model, parts=PARTS, data=data, progress=False)
    said = capsys.readouterr().err
    assert sorted(shop.names) == [f"{row}.png" for row in range(6)]
    assert "the model does not know color: teal, brand" in said
    n, red = (
        shop.schema.names.index("color"),
        shop.schema.values[shop.schema.names.index("color")].index("red"),
    )
    for row, name in enumerate(shop.names):
        assert shop.labels[row, n] == (red if int(name[0]) % 3 == 0 else -1)
    assert (np.delete(shop.labels, n, axis=1) == -1).all()
    found = shop.item("1.png").change(color="red").search(k=6)
    assert len(found) == 6
    assert shop.photo(photographs / "2.png").search(k=1)[0].name == "2.png"


def test_a_folder_of_photographs_needs_no_table(small_model, photographs, capsys):
    (photographs / "attributes.csv").unlink()
    (photographs / "more").mkdir()
    (photographs / "0.png").rename(photographs / "more" / "0.PNG")
    (photographs / "notes.txt").touch()
    (photographs / "._1.png").write_bytes(b"\0\5\x16\7")  # macOS writes them on disks of other systems
    shop = Retriever.open(small_model, data={"root": str(photographs)}, progress=False)
    assert shop.names == ["1.png", "2.png", "3.png", "4.png", "5.png", "more/0.PNG"]
    assert (shop.labels == -1).all()
    wanted = {"color": shop.schema.values[shop.schema.names.index("color")][0]}
    found = shop.item("2.png").change(**wanted).search(k=3, removes="predicted")
    assert len(found) == 3
    assert len(shop.picture(0)) > 100
    again = Retriever.open(small_model, data={"root": str(photographs)}, progress=False)
    np.testing.assert_array_equal(again._gallery.blocks, shop._gallery.blocks)


def test_a_folder_whose_photographs_lie_elsewhere_is_refused_unless_it_is_trusted(small_model, photographs):
    (photographs / "attributes.csv").unlink()
    (photographs / "0.png").rename(photographs.parent / f"{photographs.name}_elsewhere.png")
    (photographs / "0.png").symlink_to(f"../{photographs.name}_elsewhere.png")
    data = {"root": str(photographs)}
    with pytest.raises(
        DataError, match=r"set data.outside=true if you trust the folder:\n  0.png leads out of"
    ):
        Retriever.open(small_model, data=data, progress=False)
    shop = Retriever.open(small_model, data={**data, "outside": True}, progress=False)
    assert "0.png" in shop.names


def test_an_empty_folder_is_said(small_model, tmp_path):
    with pytest.raises(DataError, match="has neither attributes.csv nor images"):
        Retriever.open(small_model, data={"root": str(tmp_path)}, progress=False)
    with pytest.raises(DataError, match="does not exist"):
        Retriever.open(small_model, data={"root": str(tmp_path / "none")}, progress=False)


def test_measuring_needs_the_attributes_of_the_model(small_model, photographs):
    data = {"format": "table", "root": str(photographs), "split_column": ""}
    with pytest.raises(WorkdirError, match="attributes or values are not those"):
        evaluate(small_model, data=data, protocol={"ks": (1,)}, progress=False)


def test_what_belongs_to_the_model_stays_as_it_is(small_model):
    with pytest.raises(ConfigError, match="data.image_size belongs to the model"):
        Retriever.open(small_model, data={"image_size": 32}, progress=False)


def test_where_images_lie_has_to_be_said(small_model):
    with pytest.raises(
        ConfigError, match="does not say where images lie on this machine: data.root is not set"
    ):
        Retriever.open(small_model, data={"format": "table"}, progress=False)


def test_labels_are_found_by_their_words(rng):
    theirs = AttributeSchema(("size", "color"), (("s", "m"), ("teal", "red", "blue")))
    model = AttributeSchema(("color", "collar", "size"), (("blue", "red"), ("v",), ("m", "l", "s")))
    labels = np.stack([rng.integers(-1, 2, 40), rng.integers(-1, 3, 40)], axis=1).astype(np.int32)
    rows = np.arange(40)
    parts = {"train": rows[:10], "validation": rows[10:20], "test": rows[20:]}
    images = ImageFiles(pathlib.Path(), tuple(map(str, rows)))
    made = relabel(Catalogue(theirs, images, labels, parts), model)
    assert made.schema == model

    def words(schema, row):
        return {
            name: schema.values[n][value]
            for n, (name, value) in enumerate(zip(schema.names, row, strict=True))
            if value >= 0
        }

    for before, after in zip(labels, made.labels, strict=True):
        expected = {name: word for name, word in words(theirs, before).items() if word != "teal"}
        assert words(model, after) == expected
    same = Catalogue(theirs, images, labels, parts)
    assert relabel(same, theirs) is same
