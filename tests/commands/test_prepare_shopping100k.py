import pytest
from PIL import Image

from gradrev_commands.prepare_shopping100k import prepare_shopping100k
from gradrev_jax.errors import DataError

pytest.importorskip("tensorflow_datasets")
SIZES = [2] * 12


@pytest.fixture
def manual(tmp_path):
    """A folder of two training images, a test image and two queries."""
    folder = tmp_path / "manual"
    folder.mkdir()
    rows = {"a": [0] * 12, "b": [1] * 12, "c": [0] * 12}
    for name in rows:
        Image.new("RGB", (1, 1), (1, 2, 3)).save(folder / f"{name}.png")

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


def test_what_is_prepared_stays_as_it_is(manual, tmp_path):
    folder = prepare_shopping100k(manual, str(tmp_path / "tfds"))
    assert folder == tmp_path / "tfds" / "shopping100k" / "1.0.0"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare_shopping100k(manual, str(tmp_path / "tfds")) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "imgs_test.txt",
            "x.png",
            r"images are not below .*; set `root` to the folder .*\n\(flag: --manual_dir\)$",
        ),
        (
            "gt_test.txt",
            "1 0 " * 12 + "\n" + "1 0 " * 12,
            r"mend the rows, or set `drop_contradictions`=true to leave .*\n\(flag: --drop_contradictions\)$",
        ),
        (
            "labels_train.txt",
            "1 0",
            "labels_train.txt has 1 rows but imgs_train.txt has 2; they must have as many$",
        ),
    ],
)
def test_a_fault_is_named_with_its_flag_and_leaves_nothing(manual, tmp_path, file, text, message):
    (manual / file).write_text(text + "\n")
    with pytest.raises(DataError, match=f"(?s){message}"):
        prepare_shopping100k(manual, str(tmp_path / "tfds"))
    assert not list((tmp_path / "tfds").rglob("*shopping100k*"))


def test_a_folder_that_does_not_exist_is_named_with_its_flag(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a folder; set `splits` .* \(flag: --manual_dir\)$"):
        prepare_shopping100k(tmp_path / "nowhere", str(tmp_path / "tfds"))


def test_contradictions_can_be_dropped_from_the_command_line(call, manual, tmp_path, monkeypatch):
    from gradrev_jax.data.formats.tfds.reader import read_tfds

    rows = (manual / "gt_test.txt").read_text().splitlines()
    (manual / "gt_test.txt").write_text(f"{rows[0]}\n{rows[0]}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ["--manual_dir=~/manual", "--data_dir=~/tfds", "--drop_contradictions"]
    ended = call("prepare_shopping100k", *flags)
    assert ended.status == 0, ended.err
    assert ended.out.endswith(f"{tmp_path / 'tfds' / 'shopping100k' / '1.0.0'}: prepared\n")
    queries = read_tfds("shopping100k", data_dir=str(tmp_path / "tfds")).queries
    assert queries.targets.tolist() == [[1] + 11 * [0]]
