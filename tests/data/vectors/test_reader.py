import contextlib
import io
import json
import os
import pathlib
import pickle
import re
import resource
import struct
import unicodedata
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from gradrev_jax.data.vector_rows import VectorFile
from gradrev_jax.data.vectors import reader, stored
from gradrev_jax.data.vectors.names import match_names
from gradrev_jax.data.vectors.reader import open_vectors
from gradrev_jax.errors import DataError

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "embeddings.md"
NAMES = ["images/a.jpg", "images/b.jpg", "images/c.jpg", "images/d.jpg"]
ORDER = [2, 0, 3, 1]  # of the rows in a file with names
SHUFFLED = [NAMES[n] for n in ORDER]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TYPES = ["<f4", ">f4", "<f2", "<f8", "<i8", "|u1"]


def numbers(dtype="<f4", rows=4, width=3, seed=0):
    return np.random.default_rng(seed).integers(0, 100, (rows, width)).astype(dtype)


def lines(names):
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def save_npz(path, vectors, names=SHUFFLED):
    np.savez(path, names=np.array(names), embeddings=vectors)


def save_compressed(path, vectors, names=SHUFFLED):
    np.savez_compressed(path, names=np.array(names), embeddings=vectors)


def save_safetensors(path, vectors, names=SHUFFLED):
    save_file({"embeddings": vectors, "names": lines(names)}, path)


def save_metadata(path, vectors, names=SHUFFLED):
    save_file({"a": vectors}, path, metadata={"names": json.dumps(names)})


def save_parquet(path, vectors, names=SHUFFLED, **columns):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"image": names, "vector": list(vectors), **columns}), path)


NAMED = {
    "a.npz": save_npz,
    "compressed.npz": save_compressed,
    "b.safetensors": save_safetensors,
    "metadata.safetensors": save_metadata,
    "c.parquet": save_parquet,
}


class Notes(list):
    def __call__(self, note):
        self.append(note)


def fails(path, names=NAMES):
    """Returns the message of the error, which names the file and the argument."""
    said = Notes()
    with pytest.raises(DataError) as error:
        open_vectors(path, names, say=said)
    assert error.value.arguments == ("embeddings",)
    assert str(error.value).startswith(str(path))
    assert str(error.value).count(str(path)) == 1
    return str(error.value)


@pytest.mark.parametrize("file", NAMED)
@pytest.mark.parametrize("dtype", TYPES)
def test_rows_are_found_by_name_and_converted(tmp_path, file, dtype):
    if dtype == ">f4" and not file.endswith("npz"):
        pytest.skip("the format is little-endian")
    array, said = numbers(dtype), Notes()
    NAMED[file](tmp_path / file, array[ORDER])
    vectors = open_vectors(tmp_path / file, NAMES, say=said)
    assert vectors.shape == (4, 1, 3)
    assert np.array_equal(np.asarray(vectors)[:, 0], array.astype(np.float32))
    assert len(said) == (dtype[1:] != "f4")
    assert all(f"{file}: its numbers are {np.dtype(dtype).name}; they are converted" in note for note in said)


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_of_an_array_are_those_of_the_catalogue(tmp_path, dtype):
    array, said = numbers(dtype), Notes()
    np.save(tmp_path / "a.npy", array)
    vectors = open_vectors(tmp_path / "a.npy", NAMES, say=said)
    assert isinstance(vectors.source, VectorFile)
    assert np.array_equal(np.asarray(vectors)[:, 0], array.astype(np.float32))
    assert len(said) == (dtype[1:] != "f4")


def test_bfloat16_is_read_from_safetensors_and_refused_where_it_is_not_written_down(tmp_path):
    array = numbers(BFLOAT16)
    save_safetensors(tmp_path / "a.safetensors", array[ORDER])
    vectors = open_vectors(tmp_path / "a.safetensors", NAMES, say=Notes())
    assert np.array_equal(np.asarray(vectors)[:, 0], array.astype(np.float32))
    np.save(tmp_path / "a.npy", array)
    assert "as it is with bfloat16; save it again as float32" in fails(tmp_path / "a.npy")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_npy_are_read(tmp_path, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, numbers(), version=version)
    assert np.array_equal(open_vectors(tmp_path / "a.npy", NAMES, say=Notes())[:,][:, 0], numbers())


@pytest.mark.parametrize("file", ["a.npz", "b.safetensors", "metadata.safetensors"])
def test_numbers_that_can_be_left_in_the_file_are(tmp_path, file):
    NAMED[file](tmp_path / file, numbers())
    assert isinstance(open_vectors(tmp_path / file, NAMES, say=Notes()).source, VectorFile)


def test_more_or_fewer_rows_than_images_are_an_error_with_both_numbers(tmp_path):
    np.save(tmp_path / "a.npy", numbers(rows=6))
    message = fails(tmp_path / "a.npy")
    assert "has 6 rows and the catalogue 4 images; the file has 2 more" in message
    assert "matched by their names" in message
    np.save(tmp_path / "a.npy", numbers(rows=3))
    assert "has 3 rows and the catalogue 4 images; the catalogue has 1 more" in fails(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(4), "shape (4,); it has to be [rows, numbers]"),
        (np.zeros((4, 2, 3)), "shape (4, 2, 3); it has to be [rows, numbers]"),
        (np.zeros((4, 0)), "shape (4, 0), which has no numbers"),
        (np.zeros((0, 4)), "shape (0, 4), which has no numbers"),
        (np.zeros((1, 65_537), np.int8), "rows of 65,537 numbers, and at most 65,536 are read"),
        (np.zeros((4, 3), order="F"), "column by column (Fortran order)"),
        (np.zeros((4, 3), complex), "type complex128, not numbers"),
        (np.full((4, 3), "x"), "type <U1, not numbers"),
        (np.zeros(4, [("x", "f4")]), "not numbers"),
    ],
    ids=str,
)
def test_arrays_of_another_form_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    assert message in fails(tmp_path / "a.npy")


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


@pytest.mark.parametrize("file", ["objects.npy", "pickle.npy", "objects.npz", "both.npz"])
def test_pickles_are_refused_and_never_loaded(tmp_path, monkeypatch, file):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    bombs, path = np.array([Bomb()] * 4, object), tmp_path / file
    if file == "objects.npy":
        np.save(path, bombs)
    elif file == "pickle.npy":
        path.write_bytes(pickle.dumps(Bomb()))
    elif file == "objects.npz":
        np.savez(path, names=bombs, embeddings=numbers())
    else:
        np.savez(path, names=np.array(NAMES), embeddings=bombs)
    assert "is never loaded" in fails(path)
    assert not (tmp_path / "exploded").exists()


def test_names_that_are_objects_are_not_taken_from_another_array(tmp_path):
    """The colours were the names, of which none was an image's."""
    objects, colors = np.array(NAMES, object), np.array(["red", "blue", "green", "grey"])
    np.savez(tmp_path / "a.npz", names=objects, colors=colors, embeddings=numbers())
    message = fails(tmp_path / "a.npz")
    assert "has an array `names` of Python objects and not of strings" in message
    assert message.endswith("Save the names as np.array(names, dtype=str)")


@pytest.mark.parametrize("file", ["a.npy", *NAMED])
def test_a_file_that_is_cut_short_is_an_error(tmp_path, file):
    NAMED.get(file, np.save)(tmp_path / file, numbers(width=1000))
    whole = (tmp_path / file).read_bytes()
    for length in (0, 1, 7, 9, 60, len(whole) // 2, len(whole) - 5):
        (tmp_path / file).write_bytes(whole[:length])
        message = fails(tmp_path / file)
        assert any(words in message for words in ("empty", "cut short", "damaged", "is not a")), message


def test_the_bytes_that_are_missing_are_counted(tmp_path):
    np.save(tmp_path / "a.npy", numbers())
    save_safetensors(tmp_path / "a.safetensors", numbers())
    for name, total in (("a.npy", 48), ("a.safetensors", 48 + len(lines(NAMES)))):
        os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - 5)
        assert f"is cut short: 5 of the {total} bytes" in fails(tmp_path / name)


@pytest.mark.parametrize("file", [name for name in NAMED if name != "metadata.safetensors"])
def test_damaged_bytes_are_an_error_of_their_own_kind_or_change_numbers_alone(tmp_path, file):
    NAMED[file](tmp_path / file, numbers(width=20))
    whole = bytearray((tmp_path / file).read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), 150, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        (tmp_path / file).write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert len(open_vectors(tmp_path / file, NAMES, say=Notes())) == 4


@pytest.mark.parametrize("file", NAMED)
def test_missing_names_are_counted_and_the_first_ten_named(tmp_path, file):
    NAMED[file](tmp_path / file, numbers())
    message = fails(tmp_path / file, [*NAMES, *(f"new/{n}.jpg" for n in range(12))])
    assert "has no row for 12 of 16 images (its first name is 'images/c.jpg')" in message
    assert "'new/9.jpg'\n  and 2 more" in message


@pytest.mark.parametrize("file", NAMED)
def test_names_that_stand_twice_are_an_error(tmp_path, file):
    NAMED[file](tmp_path / file, numbers(), ["x", "y", "x", "z"])
    assert "has 1 names that stand more than once; leave one row of each:\n  'x': 2 rows" in fails(
        tmp_path / file
    )


@pytest.mark.parametrize("file", NAMED)
def test_rows_of_no_image_are_said_and_not_read(tmp_path, file):
    array, said = numbers(), Notes()
    array = array.astype(np.float32)
    array[3] = np.nan
    NAMED[file](tmp_path / file, array, [*NAMES[:3], "other.jpg"])
    vectors = open_vectors(tmp_path / file, NAMES[1:3], say=said)
    assert np.array_equal(np.asarray(vectors)[:, 0], array[1:3])
    assert said == [f"{tmp_path / file}: 2 of its 4 rows are of no image of the catalogue; they are not read"]


@pytest.mark.parametrize("file", ["a.npy", *NAMED])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_rows_that_are_not_finite_are_named(tmp_path, monkeypatch, file, value):
    monkeypatch.setattr(reader, "CHECKED", 2 * 3 * 4)  # two rows at once
    names = [f"{n}.jpg" for n in range(20)]
    array = np.zeros((20, 3))
    array[4:16, 1] = value
    if file == "a.npy":
        np.save(tmp_path / file, array)
    else:
        NAMED[file](tmp_path / file, array, names)
    message = fails(tmp_path / file, names[::-1] if file != "a.npy" else names)
    assert "has 12 rows with numbers that are NaN, infinite or too large for float32" in message
    assert "row 4, 4.jpg\n" in message
    assert "row 13, 13.jpg\n  and 2 more" in message


def test_the_names_that_the_archive_should_have_win_and_others_have_to_be_alone(tmp_path):
    path, array = tmp_path / "a.npz", numbers()
    np.savez(path, x=array, y=np.array(NAMES))
    assert np.array_equal(open_vectors(path, NAMES, say=Notes())[:][:, 0], array)
    np.savez(path, x=array + 1, embeddings=array, names=np.array(NAMES), words=np.array(["w"] * 4))
    assert np.array_equal(open_vectors(path, NAMES, say=Notes())[:][:, 0], array)
    np.savez(path, x=array, y=array, names=np.array(NAMES))
    assert "the one that is meant `embeddings`, or leave the others out:\n  x\n  y" in fails(path)
    np.savez(path, x=array)
    assert "has no one-dimensional array of strings; call one `names`. It has:\n  x: float32 [4, 3]" in fails(
        path
    )
    np.savez(path, x=np.array(NAMES))
    assert "has no two-dimensional array of numbers" in fails(path)
    np.savez(path, x=array, y=np.array(NAMES[:3]))
    assert "has 3 names and 4 rows of numbers" in fails(path)
    np.savez(path, x=array, y=np.array(["ä.jpg".encode(), b"b", b"c", b"d"]))
    assert open_vectors(path, ["ä.jpg"], say=Notes()).shape == (1, 1, 3)
    np.savez(path, x=array, y=np.array([b"\xff", b"b", b"c", b"d"]))
    assert "names that are not UTF-8" in fails(path)
    np.savez(path, x=np.asfortranarray(array), y=np.array(NAMES))
    assert "Fortran order" in fails(path)


def test_an_archive_with_another_zip_layout_is_read(tmp_path):
    """Entries above 4 GiB, as np.savez writes them ahead of time, have a longer local header."""
    import zipfile

    array, content = numbers(), io.BytesIO()
    np.save(content, array)
    named = io.BytesIO()
    np.save(named, np.array(NAMES))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("names.npy", named.getvalue())
        entry = zipfile.ZipInfo("vectors.npy")
        entry.extra = struct.pack("<HH6s", 0xCAFE, 6, b"filler")
        archive.writestr(entry, content.getvalue())
    vectors = open_vectors(tmp_path / "a.npz", NAMES, say=Notes())
    assert isinstance(vectors.source, VectorFile)
    assert np.array_equal(vectors[:][:, 0], array)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"x": numbers()}, {}, "has no names of its rows; give them as the metadata `names`"),
        ({"x": numbers()}, {"names": "[1, 2]"}, "no list of strings"),
        ({"x": numbers()}, {"names": "{"}, "has names that cannot be read"),
        ({"x": numbers(), "names": numbers()}, {}, "has names of type F32 and shape [4, 3]"),
        ({"x": numbers(), "names": np.array([255], np.uint8)}, {}, "names that are not UTF-8"),
        ({"x": numbers(), "names": lines(NAMES[:2])}, {}, "has 2 names and 4 rows"),
        ({"x": numbers(), "y": numbers()}, {}, "has several entries"),
        ({"x": np.zeros(4)}, {}, "has no two-dimensional tensor of numbers"),
        ({"embeddings": np.zeros(4)}, {}, "shape (4,); it has to be [rows, numbers]"),
    ],
    ids=str,
)
def test_tensors_of_another_form_are_refused(tmp_path, tensors, metadata, message):
    save_file(tensors, tmp_path / "a.safetensors", metadata=metadata)
    assert message in fails(tmp_path / "a.safetensors")


def test_the_tensor_is_found_behind_others(tmp_path):
    tensors = {"a": np.ones(5, np.float32), "embeddings": numbers(), "names": lines(NAMES)}
    save_file(tensors, tmp_path / "a.safetensors")
    assert np.array_equal(open_vectors(tmp_path / "a.safetensors", NAMES, say=Notes())[:][:, 0], numbers())


def test_a_line_break_after_the_last_name_is_no_name(tmp_path):
    content = np.frombuffer("\r\n".join([*NAMES, ""]).encode(), np.uint8)
    save_file({"x": numbers(), "names": content}, tmp_path / "a.safetensors")
    assert len(open_vectors(tmp_path / "a.safetensors", NAMES, say=Notes())) == 4


@pytest.mark.parametrize("kind", ["list", "large", "fixed", "half"])
def test_every_list_of_parquet_is_read_over_several_row_groups(tmp_path, monkeypatch, kind):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("gradrev_jax.data.vectors.parquet_files.BATCH", 7)
    array = numbers("<f4", rows=50)
    types = {
        "list": arrow.list_(arrow.float32()),
        "large": arrow.large_list(arrow.float64()),
        "fixed": arrow.list_(arrow.int16(), 3),
        "half": arrow.list_(arrow.float16()),
    }
    names = [f"{n}.jpg" for n in range(50)]
    rows = [row.astype(np.float16) for row in array] if kind == "half" else array.astype(int).tolist()
    vectors = arrow.array(rows, types[kind])
    words = arrow.array(names).dictionary_encode() if kind == "large" else names
    table = arrow.table({"v": vectors, "n": words, "price": np.zeros(50)})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    order = np.random.default_rng(0).permutation(50)[:30]
    found = open_vectors(tmp_path / "a.parquet", [names[n] for n in order], say=Notes())
    assert np.array_equal(np.asarray(found)[:, 0], array[order])


def test_lists_that_are_missing_or_of_other_lengths_are_named(tmp_path):
    save_parquet(tmp_path / "a.parquet", [[1.0, 2.0], None, [1.0], [1.0, 2.0]], NAMES)
    message = fails(tmp_path / "a.parquet")
    assert "has 2 rows whose list is not of 2 numbers" in message
    assert "  row 1, images/b.jpg: no list\n  row 2, images/c.jpg: 1 numbers" in message
    assert len(open_vectors(tmp_path / "a.parquet", [NAMES[0], NAMES[3]], say=Notes())) == 2
    save_parquet(tmp_path / "a.parquet", [[1.0, None], [1.0, 2.0]], NAMES[:2])
    assert "row 0, images/a.jpg" in fails(tmp_path / "a.parquet", NAMES[:2])
    save_parquet(tmp_path / "a.parquet", [[], [1.0]], NAMES[:2])
    assert "which has no numbers" in fails(tmp_path / "a.parquet", NAMES[:2])


def test_columns_of_another_form_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    save_parquet(path, numbers(), title=["w"] * 4)
    assert "has several entries that may be the column of strings" in fails(path)
    save_parquet(path, numbers(), [1, 2, 3, 4])
    assert "has no column of strings; call one `names`. It has:\n  image: int64\n  vector: list" in fails(
        path
    )
    save_parquet(path, np.zeros(4))
    assert "has no column of lists of numbers" in fails(path)
    save_parquet(path, numbers(), ["a", None, "b", "c"])
    assert "has 1 rows without a name:\n  row 1" in fails(path)


def test_a_package_that_is_not_installed_is_an_error_that_says_how(tmp_path, monkeypatch):
    import importlib

    def missing(name):
        raise ImportError(f"No module named {name!r}")

    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(importlib, "import_module", missing)
    assert "pip install -c constraints.txt -e '.[parquet]'" in fails(tmp_path / "a.parquet")


def test_a_path_that_is_no_file_of_embeddings_says_what_to_give(tmp_path):
    assert "is a folder; give one file of .npy, .npz, .safetensors, .parquet" in fails(tmp_path)
    (tmp_path / "vectors.pt").write_bytes(b"x")
    assert "has the suffix '.pt'; files of embeddings are .npy, .npz, .safetensors, .parquet" in fails(
        tmp_path / "vectors.pt"
    )
    np.save(tmp_path / "vectors.npy", numbers())
    assert "does not exist; did you mean vectors.npy?" in fails(tmp_path / "Vectors.NPY")
    assert "does not exist; did you mean vectors.npy?" in fails(tmp_path / "vector.npy")
    assert "does not exist; give the path" in fails(tmp_path / "none" / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")
    assert "Git LFS pointer" in fails(tmp_path / "x.npz")
    (tmp_path / "y.npy").write_bytes(b"PK\x03\x04 something")
    assert "is not an array of NumPy: it begins with" in fails(tmp_path / "y.npy")


def test_a_file_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", numbers())

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    assert "cannot be read: Permission denied" in fails(tmp_path / "a.npy")


def test_names_are_matched_by_the_same_path_spelled_otherwise():
    composed = unicodedata.normalize("NFC", "é.jpg")
    stored = [".\\b\\1.jpg", "a/./c.jpg", unicodedata.normalize("NFD", composed), "exact.jpg"]
    wanted = ["exact.jpg", composed, "./a/c.jpg", "b/1.jpg"]
    said = Notes()
    assert match_names(stored, wanted, say=said).tolist() == [3, 2, 1, 0]
    assert said == []


def test_spellings_that_several_rows_or_images_have_match_nothing():
    with pytest.raises(DataError, match=r"no row for 1 of 1 images"):
        match_names(["./a.jpg", ".\\a.jpg"], ["a.jpg"], say=Notes())
    with pytest.raises(DataError, match=r"no row for 1 of 2 images .*\n  'a//b.jpg'"):
        match_names(["a/b.jpg", "x.jpg"], ["a/b.jpg", "a//b.jpg"], say=Notes())


def test_names_are_matched_by_the_file_if_that_tells_all_apart():
    said, wanted = Notes(), ["images/1163.jpg", "images/sku.22.jpg"]
    assert match_names(["sku.22", "1163"], wanted, say=said).tolist() == [1, 0]
    assert said == ["names match by the file without folder and suffix, as '1163' for 'images/1163.jpg'"]
    with pytest.raises(DataError, match="no row for 2 of 2"):  # two rows for one
        match_names(["x/1163", "1163", "sku.22"], wanted, say=Notes())
    with pytest.raises(DataError, match="no row for 2 of 2"):  # one row for two
        match_names(["1", "2"], ["a/1.jpg", "b/1.jpg"], say=Notes())
    with pytest.raises(DataError, match=r"no row for 1 of 2 images .*\n  'b/2.jpg'"):  # not all are there
        match_names(["a/1.jpg", "3"], ["a/1.jpg", "b/2.jpg"], say=Notes())


@pytest.mark.parametrize("file", [f"vectors{suffix}" for suffix in reader.FORMATS])
def test_the_documentation_writes_files_that_are_read(tmp_path, monkeypatch, file):
    if file.endswith(".parquet"):
        pytest.importorskip("pyarrow.parquet")
    (block,) = re.findall(f"```python\n# {file}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    array, said = numbers(), Notes()
    monkeypatch.chdir(tmp_path)
    exec(block, {"names": NAMES, "vectors": array})
    assert np.array_equal(open_vectors(tmp_path / file, NAMES, say=said)[:][:, 0], array)
    assert said == []


def write_safetensors(path, header, content=bytes(48)):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


TENSOR = {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": TENSOR, "__metadata__": {"names": 0.5}},
        {"a": TENSOR, "__metadata__": {"names": NAMES}},
        {"a": TENSOR, "__metadata__": "names"},
        {"a": TENSOR, "__metadata__": None},
        {"a": {**TENSOR, "shape": [4.0, 3.0]}, "__metadata__": {"names": json.dumps(NAMES)}},
        {"a": {**TENSOR, "shape": [-4, -3]}, "__metadata__": {"names": json.dumps(NAMES)}},
        {"a": {**TENSOR, "shape": [True, 12]}, "__metadata__": {"names": json.dumps(NAMES)}},
        {"a": {**TENSOR, "data_offsets": [0.0, 48.0]}, "__metadata__": {"names": json.dumps(NAMES)}},
    ],
)
def test_a_header_of_safetensors_with_values_of_other_types_is_damaged(tmp_path, header):
    """Found by fuzzing: the errors of whatever came to use the values came through."""
    write_safetensors(tmp_path / "a.safetensors", header)
    assert "has a damaged header (" in fails(tmp_path / "a.safetensors")


def test_names_that_nest_too_deeply_are_refused(tmp_path):
    names = "[" * 100_000 + "]" * 100_000
    write_safetensors(tmp_path / "a.safetensors", {"a": TENSOR, "__metadata__": {"names": names}})
    assert "has names that cannot be read" in fails(tmp_path / "a.safetensors")


def write_archive(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                for piece in content:
                    file.write(piece)


def header_of(array_type, shape):
    file = io.BytesIO()
    described = {"descr": np.dtype(array_type).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def test_an_archive_that_would_fill_the_memory_is_refused_by_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGEST_PACKED", 2**20)
    names, rows = header_of("<U1", (4,)) + bytes(16), header_of("<f4", (4, 65_536))
    write_archive(tmp_path / "bomb.npz", names=[names], a=[rows, bytes(2**20)])
    message = fails(tmp_path / "bomb.npz")
    assert re.search(r"has an array a.npy whose [\d,]+ bytes would become 1,048,704, 100 times", message)
    wide = np.random.default_rng(0).random((4, 65_536), np.float32)
    save_compressed(tmp_path / "honest.npz", wide)
    assert open_vectors(tmp_path / "honest.npz", NAMES, say=Notes()).shape == (4, 1, 65_536)


def test_an_archive_whose_header_would_fill_the_memory_is_refused(tmp_path):
    length = 2**26
    header = b"\x93NUMPY\x02\0" + length.to_bytes(4, "little")
    write_archive(tmp_path / "a.npz", a=[header, *(b" " * 2**22 for _ in range(length // 2**22))])
    before = peak()
    assert "has a damaged header of more than 10,000 bytes" in fails(tmp_path / "a.npz")
    assert peak() - before < length / 4


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_names_that_are_longer_than_paths_are_refused(tmp_path):
    names = header_of("<U100000", (4,))
    write_archive(
        tmp_path / "a.npz", names=[names, bytes(4 * 400_000)], a=[header_of("<f4", (4, 3)), bytes(48)]
    )
    assert "has names of 400,000 bytes" in fails(tmp_path / "a.npz")


def test_an_archive_with_a_name_that_is_no_text_is_damaged(tmp_path):
    """Found by fuzzing: the error of the decoder came through."""
    save_npz(tmp_path / "a.npz", numbers())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 8 : entry + 10] = (0x800).to_bytes(2, "little")  # its name is UTF-8
    content[entry + 46] = 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    assert "is cut short, damaged, or no file of np.savez" in fails(tmp_path / "a.npz")


def test_a_parquet_file_of_far_more_rows_than_bytes_is_refused(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    count = 10**6
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(np.zeros(count, np.float32)), 1)
    same = arrow.array(["a.jpg"]).take(arrow.array(np.zeros(count, np.int64)))
    parquet.write_table(arrow.table({"names": same, "embeddings": lists}), tmp_path / "a.parquet")
    assert re.search(
        r"it has [\d,]+ bytes and says that it has 1,000,000 rows", fails(tmp_path / "a.parquet")
    )


def test_a_long_name_that_all_rows_of_a_parquet_file_share_is_not_repeated_in_memory(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    count = 20_000
    same = arrow.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["x" * 100_000])
    vectors = list(np.random.default_rng(0).random((count, 2), np.float32))
    parquet.write_table(arrow.table({"names": same, "embeddings": vectors}), tmp_path / "a.parquet")
    before = peak()
    assert "has a name of 100,000 bytes" in fails(tmp_path / "a.parquet")
    assert peak() - before < 2**28


@pytest.mark.parametrize(
    ("order", "code"), [("<", 0x110000), (">", 0x110000), ("<", 0xFFFFFFFF), ("<", 0xD800)]
)
def test_characters_that_do_not_exist_are_refused(tmp_path, order, code):
    """Found by fuzzing: NumPy makes strings of them that break Python."""
    names = np.zeros((4, 2), f"{order}u4")
    names[:, 0] = range(65, 69)
    names[2, 1] = code
    np.savez(tmp_path / "a.npz", names=names.view(f"{order}U2")[:, 0], embeddings=numbers())
    assert re.search("has (damaged names|names that are no text)", fails(tmp_path / "a.npz", ["A", "B", "D"]))


def test_half_a_character_in_metadata_is_refused(tmp_path):
    names = json.dumps([*NAMES[:3], "\ud800"])
    write_safetensors(tmp_path / "a.safetensors", {"a": TENSOR, "__metadata__": {"names": names}})
    assert "has names that are no text (surrogates not allowed)" in fails(tmp_path / "a.safetensors")
