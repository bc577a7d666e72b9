"""A run and its catalogue, from the table to the report: what changes in between is told, or stops it."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from gradrev_jax import Retriever
from gradrev_jax.errors import DataError, UserError, WorkdirError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs.fingerprints import FINGERPRINT_FILE, read_fingerprint
from gradrev_jax.training.run import train

COUNT, TEST_FROM = 40, 26
COLORS, SIZES = ("blue", "red"), ("l", "m", "s")


def write_table(root, rows):
    with (root / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "split", "color", "size"), *rows])


def read_table(root):
    with (root / "attributes.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Forty noisy squares, whose table has every combination of labels many times."""
    root, rng = tmp_path_factory.mktemp("catalogue"), np.random.default_rng(0)
    (root / "images").mkdir()
    rows = []
    for number in range(COUNT):
        color, size = number % 2, number % 3
        pixels = rng.integers(0, 40, (64, 64, 3), np.uint8)
        pixels[8 : 24 + 12 * size, 8:56, 2 * (1 - color)] = 220
        Image.fromarray(pixels).save(root / "images" / f"{number:02d}.png")
        part = "train" if number < TEST_FROM else "test"
        rows.append((f"images/{number:02d}.png", part, COLORS[color], SIZES[size]))
    write_table(root, rows)
    return root


@pytest.fixture(scope="module")
def config_of(tmp_path_factory, small_backbone):
    from configs import catalogue

    cache = str(tmp_path_factory.mktemp("cache"))

    def make(root, **data):
        config = catalogue.get_config("cpu")
        config.data.root, config.data.cache_dir = str(root), cache
        config.data.image_size = config.data.train_resize = 64
        config.data.update(data)
        config.model.backbone, config.model.feature_dim = small_backbone, 4
        config.train.batch_size, config.train.max_steps = 8, 1
        config.protocol.ks, config.protocol.batch_size = (1, 3), 16
        config.protocol.baselines, config.protocol.leakage = (), False
        return config

    return make


@pytest.fixture(scope="module")
def trained(catalogue, config_of, tmp_path_factory):
    """A run on the parts that the table says, and one whose parts are drawn, by image and by order."""
    folder = tmp_path_factory.mktemp("runs")
    train(config_of(catalogue), folder / "fixed", progress=False)
    for split_by in ("image", "order"):
        config = config_of(catalogue, split_column="", attributes=("color", "size"), split_by=split_by)
        train(config, folder / split_by, progress=False)
    return folder


@pytest.fixture
def copies(catalogue, trained, tmp_path):
    """The catalogue and a run on it, to be changed; config.json points to the copy."""

    def make(run):
        root, directory = tmp_path / "catalogue", tmp_path / "run"
        shutil.copytree(catalogue, root, dirs_exist_ok=True)
        shutil.copytree(trained / run, directory)
        text = (directory / "config.json").read_text()
        (directory / "config.json").write_text(text.replace(str(catalogue), str(root)))
        return root, directory

    return make


def changes(directory):
    return evaluate(directory, progress=False)["catalogue_changes"]


@pytest.mark.long
def test_nothing_is_said_of_a_catalogue_that_is_as_it_was(copies, capsys):
    _, directory = copies("fixed")
    assert changes(directory) == []
    assert "note" not in capsys.readouterr().err


@pytest.mark.long
def test_a_row_that_goes_takes_no_image_from_its_part(copies, capsys):
    """Where the parts are drawn: without the row, the same test images are left."""
    root, directory = copies("image")
    before = read_fingerprint(directory)
    gone = next(n for n, was in zip(before.names, before.trained_on, strict=True) if was)
    write_table(root, [row for row in read_table(root) if row[0] != gone])
    metrics = evaluate(directory, progress=False)
    assert metrics["gallery"] == (~before.trained_on).sum()
    (sentence,) = metrics["catalogue_changes"]
    assert sentence.startswith(f"1 image is no longer there: {gone} (")
    assert f"note: {sentence}" in capsys.readouterr().err


def test_parts_by_the_order_of_the_rows_are_refused_once_a_row_is_gone(copies):
    """As all runs were up to 0.1.0: nearly all test images would have been trained on, without a word."""
    root, directory = copies("order")
    write_table(root, read_table(root)[1:])
    with pytest.raises(DataError, match=r"images are in the test part that .* was trained on: images/"):
        changes(directory)
    assert not (directory / "report").exists()


@pytest.mark.long
def test_labels_that_changed_are_told(copies):
    root, directory = copies("fixed")
    other = {"red": "blue", "blue": "red"}
    write_table(root, [(*row[:2], other[row[2]], row[3]) for row in read_table(root)])
    (sentence,) = changes(directory)
    assert sentence.startswith("40 images are labelled otherwise: images/00.png (color: blue -> red), ")
    assert sentence.endswith(" and 30 more")


def test_an_image_that_was_trained_on_is_not_tested_under_another_name(copies):
    root, directory = copies("fixed")
    shutil.copy(root / "images" / "03.png", root / "images" / "new.png")
    write_table(root, [*read_table(root), ("images/new.png", "test", "red", "l")])
    with pytest.raises(DataError, match=r"was trained on: images/new.png \(was images/03.png\)"):
        changes(directory)


def test_a_value_that_is_new_is_named(copies):
    root, directory = copies("fixed")
    write_table(root, [*read_table(root)[:-1], ("images/39.png", "test", "pink", "s")])
    with pytest.raises(WorkdirError, match="new: color: pink"):
        changes(directory)


@pytest.mark.long
def test_a_run_without_a_fingerprint_is_evaluated_with_a_word(copies, capsys):
    _, directory = copies("fixed")
    (directory / FINGERPRINT_FILE).unlink()
    (sentence,) = changes(directory)
    assert f"holds no {FINGERPRINT_FILE}" in sentence
    assert "cannot be told" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_training_images(copies, config_of, capsys):
    root, directory = copies("fixed")
    write_table(root, read_table(root)[10:])
    config = config_of(root)
    config.train.max_steps = 2
    with pytest.raises(
        WorkdirError, match=r"10 images are no longer there: images/00.png \((train|validation)\)"
    ):
        train(config, directory, progress=False)
    config.data.accept_changes = True
    train(config, directory, progress=False)
    assert "note: 10 images are no longer there" in capsys.readouterr().err
    # What is gone was trained on all the same.
    write_table(root, [("images/00.png", "test", "blue", "l"), *read_table(root)])
    with pytest.raises(DataError, match=r"was trained on: images/00.png\."):
        changes(directory)


@pytest.mark.long
def test_a_run_goes_on_where_only_the_test_part_grew(copies, config_of, capsys):
    root, directory = copies("fixed")
    Image.new("RGB", (64, 64), "red").save(root / "images" / "new.png")
    write_table(root, [*read_table(root), ("images/new.png", "test", "red", "l")])
    train(config_of(root), directory, progress=False)
    assert "note: 1 image is added: images/new.png (test)" in capsys.readouterr().err
    assert changes(directory) == []


def test_what_is_wrong_with_a_catalogue_is_said_at_once_and_before_training(catalogue, config_of, tmp_path):
    """Unreadable images of all parts, and that no query can be asked."""
    root = tmp_path / "catalogue"
    shutil.copytree(catalogue, root)
    rows = [(*row[:2], COLORS[n % 2], SIZES[n % 2]) for n, row in enumerate(read_table(root))]
    write_table(root, rows)  # the size follows the color: no image differs from another in one of them alone
    for number in (0, COUNT - 1):
        (root / "images" / f"{number:02d}.png").write_text("<html>")
    with pytest.raises(UserError) as error:
        train(config_of(root), tmp_path / "run", progress=False)
    message = str(error.value)
    assert "images/00.png: is an HTML page" in message
    assert "images/39.png: is an HTML page" in message
    assert "no query can be asked" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_copies_in_both_parts_are_told_before_training(catalogue, config_of, tmp_path, capsys):
    root = tmp_path / "catalogue"
    shutil.copytree(catalogue, root)
    shutil.copy(root / "images" / "05.png", root / "images" / "30.png")
    train(config_of(root), tmp_path / "run", progress=False)
    said = "1 image is in the test part and trained on, too: images/30.png (= images/05.png)"
    assert f"note: {said}" in capsys.readouterr().err
    assert changes(tmp_path / "run") == [said], "the report does not keep it to itself"


@pytest.mark.long
def test_a_run_that_was_ended_before_its_first_step_begins_anew(copies, config_of):
    """Whatever its folder says by then, nothing has been trained on."""
    root, directory = copies("fixed")
    shutil.rmtree(directory / "checkpoints")
    write_table(root, read_table(root)[10:])
    train(config_of(root), directory, progress=False)
    assert len(read_fingerprint(directory).names) == COUNT - 10
    assert changes(directory) == []


def test_values_are_spelled_as_the_run_knows_them(copies, config_of, capsys):
    """A few rows more, or a program that writes 36.0 for 36, make another spelling that of most rows."""
    root, directory = copies("fixed")
    other = {"red": "RED", "blue": "Blue"}
    write_table(root, [(*row[:2], other[row[2]], row[3].upper()) for row in read_table(root)])
    assert changes(directory) == []
    config = config_of(root)
    config.train.max_steps = 2
    train(config, directory, progress=False)
    assert "labelled otherwise" not in capsys.readouterr().err
    shop = Retriever.open(directory, progress=False)
    assert shop.schema.values == (COLORS, SIZES)
    assert (shop.labels >= 0).all()
    assert shop.allowed({"color": "red"}, ()).any()
    assert "does not know" not in capsys.readouterr().err


@pytest.mark.long
def test_training_images_in_another_order_are_told(copies, config_of, capsys):
    root, directory = copies("fixed")
    config, rows = config_of(root), read_table(root)
    config.train.max_steps = 2
    write_table(root, [*rows[: TEST_FROM // 2], *rows[TEST_FROM:], *rows[TEST_FROM // 2 : TEST_FROM]])
    train(config, directory, progress=False)
    assert "order" not in capsys.readouterr().err, "that of training images is as it was"
    write_table(root, rows[::-1])
    config.train.max_steps = 3
    train(config, directory, progress=False)
    assert "note: the training images come in another order" in capsys.readouterr().err
    assert changes(directory) == [], "which means nothing to an evaluation"


@pytest.mark.long
@pytest.mark.parametrize("data", [{"leave_out": ("size",)}, {"min_count": 8}])
def test_a_gallery_is_read_without_what_holds_for_training_alone(catalogue, config_of, tmp_path, data):
    root = tmp_path / "catalogue"
    shutil.copytree(catalogue, root)
    write_table(root, [(*row, ("wool", "silk")[n // 6 % 2]) for n, row in enumerate(read_table(root))])
    text = (root / "attributes.csv").read_text().replace("color,size", "color,size,fabric", 1)
    (root / "attributes.csv").write_text(text)
    train(config_of(root, **data), tmp_path / "run", progress=False)
    rows = [row for n, row in enumerate(read_table(root)) if n >= TEST_FROM or n < 4]
    (root / "attributes.csv").write_text(text.splitlines()[0] + "\n")
    with (root / "attributes.csv").open("a", newline="") as file:
        csv.writer(file).writerows(
            [(*row[:4], "wool") for row in rows]
        )  # one value is left, and few of others
    shop = Retriever.open(tmp_path / "run", progress=False)
    assert (shop.labels >= 0).all()
    assert "fabric" in shop.schema.names
    assert ("size" in shop.schema.names) == ("leave_out" not in data)
    assert shop.item(0).change(fabric="silk").search(k=2).rows.shape == (2,)


def test_a_gallery_that_could_not_be_evaluated_is_searched(copies):
    """It is smaller than the largest cut-off, and without labels."""
    root, directory = copies("fixed")
    rows = read_table(root)
    kept = [*rows[:TEST_FROM], *((*row[:2], "", "") for row in rows[TEST_FROM : TEST_FROM + 2])]
    write_table(root, kept)
    shop = Retriever.open(directory, progress=False)
    assert shop.num_items == 2
    assert len(shop.item(0).change(color="red").search(k=2)) == 2


def test_a_shop_goes_on_with_a_table_that_has_changed(copies, capsys):
    """Values come, one sells out, and a column is new: an evaluation refuses that, searching does not."""
    root, directory = copies("fixed")
    rows = [row for row in read_table(root) if row[3] != "m"]
    known, new = rows[-1][0], "images/new.png"
    shutil.copy(root / known, root / new)
    rows.append((new, "test", "teal", "s"))
    header = ("image", "split", "color", "size", "price")
    with (root / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *((*row, str(n)) for n, row in enumerate(rows))])
    with pytest.raises(DataError, match=r"ignore=\('price',\)"):
        changes(directory)
    with pytest.raises(WorkdirError, match=r"\(new: color: teal; gone: size: m\); restore .* data.ignore"):
        evaluate(directory, data={"ignore": ("price",)}, progress=False)
    capsys.readouterr()
    shop = Retriever.open(directory, progress=False)
    assert "does not know color: teal" in capsys.readouterr().err
    assert shop.schema.values == (COLORS, SIZES)
    assert shop.labels[shop.row(new)].tolist() == [-1, SIZES.index("s")]
    found = shop.item(known).change(color="red").search(k=3)
    assert len(found) == 3
    assert shop.item(new).search(k=2).distances[:2].tolist() == [0, 0], "and its copy"
    with pytest.raises(DataError, match=r"'images/00.png'; it is in the part '(train|validation)'"):
        shop.item("images/00.png")
