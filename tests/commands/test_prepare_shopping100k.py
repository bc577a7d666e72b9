import pytest

from gradrev_jax.data import prepare_shopping100k as command

pytest.importorskip("tensorflow_datasets")
SIZES = [2] * 12


@pytest.fixture
def manual(tmp_path, as_png):
    """Two training images, one for the test, and one query."""
    folder = tmp_path / "manual"
    folder.mkdir()
    rows = {"a": [0] * 12, "b": [1] * 12, "c": [0] * 12}
    for name in rows:
        (folder / f"{name}.png").write_bytes(as_png([[[1, 2, 3]]]))

    def one_hot(labels):
        return " ".join(f"{1 - label} {label}" for label in labels)

    files = {
        "attr_num.txt": " ".join(map(str, SIZES)),
        "imgs_train.txt": "a.png\nb.png",
        "labels_train.txt": f"{one_hot(rows['a'])}\n{one_hot(rows['b'])}",
        "imgs_test.txt": "c.png",
        "labels_test.txt": one_hot(rows["c"]),
        "ref_test.txt": "0\n0",
        "indfull_test.txt": "-1 1" + 22 * " 0" + "\n0 0 -1 1" + 20 * " 0",
        "gt_test.txt": f"{one_hot([1] + 11 * [0])}\n{one_hot([0, 1] + 10 * [0])}",
    }
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    return folder


def run(*arguments):
    command.main([f"--{name}={value}" if value is not True else f"--{name}" for name, value in arguments])


def test_it_says_where_it_is_and_leaves_it_there(manual, tmp_path, capsys):
    arguments = ("manual_dir", manual), ("data_dir", tmp_path / "tfds")
    run(*arguments)
    folder = tmp_path / "tfds" / "shopping100k" / "1.0.0"
    assert capsys.readouterr().out.endswith(f"{folder}: prepared\n")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    run(*arguments)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("imgs_test.txt", "x.png", "images are not below .*; set --manual_dir to the folder"),
        (
            "gt_test.txt",
            "1 0 " * 12 + "\n" + "1 0 " * 12,
            "mend the rows, or set --drop_contradictions to leave",
        ),
        ("labels_train.txt", "1 0", "labels_train.txt has 1 rows but imgs_train.txt has 2"),
    ],
)
def test_a_fault_is_one_message_and_leaves_nothing(manual, tmp_path, file, text, message):
    (manual / file).write_text(text + "\n")
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        run(("manual_dir", manual), ("data_dir", tmp_path / "tfds"))
    assert not list((tmp_path / "tfds").rglob("*shopping100k*"))


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(SystemExit, match="nowhere is not a folder; set --manual_dir"):
        run(("manual_dir", tmp_path / "nowhere"), ("data_dir", tmp_path / "tfds"))
    assert not list(tmp_path.iterdir())


def test_the_home_folder_is_put_in(manual, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run(("manual_dir", "~/manual"), ("data_dir", "~/tfds"))
    assert (tmp_path / "tfds" / "shopping100k" / "1.0.0").is_dir()
    with pytest.raises(SystemExit, match="^error: --data_dir=~nobodyhere: there is no user"):
        run(("manual_dir", "~/manual"), ("data_dir", "~nobodyhere"))


def test_contradictions_can_be_dropped(manual, tmp_path):
    from gradrev_jax.data.formats.tfds.reader import read_tfds

    rows = (manual / "gt_test.txt").read_text().splitlines()
    (manual / "gt_test.txt").write_text(f"{rows[0]}\n{rows[0]}\n")
    run(("manual_dir", manual), ("data_dir", tmp_path / "tfds"), ("drop_contradictions", True))
    queries = read_tfds("shopping100k", data_dir=str(tmp_path / "tfds")).queries
    assert queries.targets.tolist() == [[1] + 11 * [0]]
