import json

import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex
from gradrev_jax.errors import DataError
from gradrev_jax.search.index_files import open_index, save_index

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
RNG = np.random.default_rng(0)
GALLERY = RNG.normal(size=(30, 2, 4)).astype(np.float32)
MEMORY = RNG.normal(size=(5, 2, 4)).astype(np.float32)
QUERIES = {
    "reference_ids": np.array([3, 3, 17]),
    "indicators": np.array([[-1, 1, 0, 0, 0], [0, 0, 0, 1, -1], [0, 0, 0, 0, 0]]),
    "k": 7,
}


@pytest.fixture
def folder(tmp_path):
    save_index(ManipulationIndex.build(GALLERY, MEMORY, SCHEMA, "attribute"), tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.long
def test_what_is_opened_finds_what_was_saved(folder):
    opened = open_index(folder, features=GALLERY, memory=MEMORY)
    assert opened.normalize == "attribute"
    assert isinstance(opened.features, np.memmap)
    expected = ManipulationIndex.build(GALLERY, MEMORY, SCHEMA, "attribute").search(**QUERIES)
    found = opened.search(**QUERIES)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    session = opened.session(3).search(QUERIES["indicators"][:1], k=7)
    np.testing.assert_array_equal(session.indices[0], expected.indices[0])


def test_weights_are_saved_with_the_index(tmp_path):
    index = ManipulationIndex.build(GALLERY, MEMORY, SCHEMA, weights=[0.5, 3])
    save_index(index, tmp_path / "index")
    opened = open_index(tmp_path / "index", features=GALLERY, memory=MEMORY)
    np.testing.assert_array_equal(opened.products.weights, index.products.weights)
    for found, expected in zip(opened.search(**QUERIES), index.search(**QUERIES), strict=True):
        np.testing.assert_array_equal(found, expected)
    for other in (MEMORY * np.float32(1.1), MEMORY[:4], MEMORY[:, :1]):
        with pytest.raises(DataError, match="is the index of another memory"):
            open_index(tmp_path / "index", memory=other)


def test_a_folder_of_before_there_were_weights_has_none(folder):
    """Version 2 had the same files, and no word of weights."""
    about = json.loads((folder / "index.json").read_text())
    assert about.pop("weights") is None
    (folder / "index.json").write_text(json.dumps({**about, "version": 2}))
    assert open_index(folder, features=GALLERY, memory=MEMORY).products.weights is None
    (folder / "index.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="is no index that can be read: 'weights'"):
        open_index(folder)


@pytest.mark.long
@pytest.mark.parametrize("weights", [None, [0.5, 3, 1]])
@pytest.mark.parametrize("absent", [None, np.float32(0.1) * MEMORY[:2, 0]])
def test_an_edit_by_replacement_is_saved_with_the_index(tmp_path, absent, weights):
    """Of a gallery with a block that belongs to no attribute."""
    gallery, memory = (np.concatenate([x, x[:, :1]], axis=1) for x in (GALLERY, MEMORY))
    index = ManipulationIndex.build(gallery, memory, SCHEMA, "global", weights, "replace", absent)
    save_index(index, tmp_path / "index")
    opened = open_index(tmp_path / "index", features=gallery, memory=memory)
    queries = {**QUERIES, "indicators": np.array([[-1, 1, 0, 0, 0], [0, 0, 0, 0, -1], [0] * 5])}
    for found, expected in zip(opened.search(**queries), index.search(**queries), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(DataError, match="is the index of another memory"):
        open_index(tmp_path / "index", memory=memory * np.float32(1.1))
    other = ManipulationIndex.build(gallery, memory, SCHEMA, "global", weights).search(**queries)
    assert (np.asarray(opened.search(**queries).distances) != other.distances).any()


def test_a_folder_of_before_there_were_edits_has_that_of_the_paper(folder):
    """Version 3 had the same files, and no word of an edit."""
    expected = open_index(folder).search(**QUERIES)
    about = json.loads((folder / "index.json").read_text())
    assert about.pop("replacement") is None
    (folder / "index.json").write_text(json.dumps({**about, "version": 3}))
    opened = open_index(folder, features=GALLERY, memory=MEMORY)
    assert opened.replacement is None
    np.testing.assert_array_equal(opened.search(**QUERIES).indices, expected.indices)
    (folder / "index.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="is no index that can be read: 'replacement'"):
        open_index(folder)


def test_folders_may_be_strings(folder, tmp_path):
    save_index(open_index(str(folder)), str(tmp_path / "copy"))
    np.testing.assert_array_equal(open_index(str(tmp_path / "copy")).features, GALLERY)


@pytest.mark.parametrize(
    ("other", "which"),
    [
        ({"features": GALLERY + 1e-6}, "gallery"),
        ({"features": GALLERY[:-1]}, "gallery"),
        ({"memory": np.where(MEMORY[2, 1, 3] == MEMORY, 0, MEMORY)}, "memory"),
    ],
    ids=["another gallery", "a row less", "another memory"],
)
def test_an_index_of_something_else(folder, other, which):
    with pytest.raises(DataError, match=f"index is the index of another {which}; build it again from this"):
        open_index(folder, **other)


def test_folders_that_are_no_index(folder, tmp_path):
    with pytest.raises(DataError, match="is no index that can be read: .*No such file"):
        open_index(tmp_path / "nothing")
    about = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**about, "version": 0}))
    with pytest.raises(DataError, match="is an index of version 0, not 4"):
        open_index(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(DataError, match="is no index that can be read"):
        open_index(folder)
    (folder / "index.json").write_text(json.dumps(about))
    (folder / "rows.npy").write_bytes((folder / "rows.npy").read_bytes()[:200])
    with pytest.raises(DataError, match="is no index that can be read"):
        open_index(folder)


def test_a_folder_that_is_there_stays_as_it_is(folder):
    before = (folder / "index.json").read_bytes()
    with pytest.raises(DataError, match="index cannot be written"):
        save_index(ManipulationIndex.build(GALLERY[:5], MEMORY, SCHEMA), folder)
    assert (folder / "index.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def header(shape, kind="<f4", start=b"\x93NUMPY\1\0"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return start + len(text).to_bytes(2, "little") + text


def zipped(tmp_path):
    np.savez(tmp_path / "archive.npz", a=np.ones(3))
    return (tmp_path / "archive.npz").read_bytes()


@pytest.mark.parametrize("name", ["features", "rows", "table", "entries", "largest"])
@pytest.mark.parametrize(
    "content",
    [
        lambda _: b"",
        lambda _: b"\x80\x04N.",
        lambda _: header("(" * 99),
        lambda _: header("(1000000000, 1000000000, 1000000000)"),
        lambda _: header("(3, 2)", "|O"),
        lambda _: header("(0,)"),
        zipped,
    ],
    ids=["empty", "pickle", "nested", "huge", "objects", "nothing", "archive"],
)
def test_damaged_arrays_are_one_kind_of_error(folder, tmp_path, name, content):
    (folder / f"{name}.npy").write_bytes(content(tmp_path))
    with pytest.raises(DataError, match=f"index is no index that can be read: .*{name}"):
        open_index(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("features", lambda array: array[:-1], r"features.npy has the shape \(29, 2, 4\), not \(30, 2, 4\)"),
        ("rows", lambda array: array[:, :1], "has the shape"),
        ("rows", lambda array: array[:, :, 0], "its rows are"),
        ("rows", lambda array: array.astype(np.float64), "has numbers of the type float32, not float64"),
        ("rows", lambda array: array.astype(np.int32), "rows.npy has numbers of the type int32"),
        (
            "square_norms",
            lambda array: array * np.float32(np.nan),
            "square_norms.npy has numbers that are not",
        ),
        ("memory", lambda array: array + np.float32(1), "its memory is not the one that it was saved with"),
        ("memory", lambda array: array * 0, "part.npy|has the shape"),
        ("memory_norms", lambda array: array[:-1], "memory_norms.npy has the shape"),
        ("table", lambda array: array[:-1], "table.npy has the shape"),
        ("part", lambda array: array + 1, "part.npy or entries.npy is damaged"),
        ("entries", lambda array: array[::-1], "part.npy or entries.npy is damaged"),
        ("entries", lambda array: array.astype(np.float32), "entries.npy has numbers of the type float32"),
        ("largest", lambda array: array[None], "largest.npy has the shape"),
    ],
)
def test_arrays_that_do_not_fit_are_named(folder, name, change, message):
    np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))
    with pytest.raises(DataError, match=f"is no index that can be read: .*{message}"):
        open_index(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"normalize": "l2"}, "its normalisation is 'l2'"),
        ({"normalize": ["none"]}, "unhashable|its normalisation"),
        ({"weights": [1.0]}, r"it has the weights \[1.0\] for 2 blocks"),
        ({"weights": [1.0, -1.0]}, "it has the weights"),
        ({"weights": [1.0, 10**400]}, "too large|it has the weights"),
        ({"replacement": {"attribute_of": [0, 0, 0, 1, 2], "has_absent": False}}, "beyond the 2 blocks"),
        (
            {"replacement": {"attribute_of": [0, 0, 0, 1], "has_absent": False}},
            "has 4 values, and its memory 5",
        ),
        (
            {"replacement": {"attribute_of": [0, 0, 0, 1, 1], "has_absent": True}},
            "has 5 values, and its memory",
        ),
        ({"replacement": {"attribute_of": [0, 0, 0, 1, 1], "has_absent": 0}}, "neither true nor false"),
        ({"replacement": {"attribute_of": [0.0] * 5, "has_absent": False}}, "no list of whole numbers"),
        ({"replacement": 3}, "not subscriptable"),
        ({"version": [[[]]]}, r"is an index of version \[\[\[\]\]\], not 4"),
    ],
)
def test_a_damaged_description_is_named(folder, fields, message):
    about = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**about, **fields}))
    with pytest.raises(DataError, match=message):
        open_index(folder)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.int32])
def test_an_index_of_features_without_a_form_in_files(tmp_path, unchecked, dtype):
    """Found by use: it was saved, and could never be opened."""
    schema = AttributeSchema(("color",), (("blue", "red"),))
    gallery, memory = jnp.asarray([[[1, 0]], [[0, 1]], [[3, 4]]], dtype), np.eye(2, dtype=np.float32)[:, None]
    index = ManipulationIndex.build(gallery, memory, schema)
    save_index(index, tmp_path / "index")
    opened = open_index(tmp_path / "index", features=gallery, memory=memory)
    asked = {"reference_ids": np.array([0]), "indicators": np.array([[-1, 1]]), "k": 3}
    assert opened.search(**asked).indices.tolist() == index.search(**asked).indices.tolist()
