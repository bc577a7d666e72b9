import concurrent.futures
import gc
import hashlib
import os
import pathlib
import sys

import ml_dtypes
import numpy as np
import pytest

from gradrev_jax.data.vector_rows import VectorArray, VectorFile, Vectors
from gradrev_jax.errors import DataError

TYPES = ["<f4", ">f4", "<f2", ">f2", "<f8", "|i1", ">u2", "<i8", "|b1", np.dtype(ml_dtypes.bfloat16)]


def numbers(shape, dtype="<f4", seed=0):
    return np.random.default_rng(seed).normal(0, 50, shape).astype(dtype)


def stored(path, array, offset=37):
    path.write_bytes(b"x" * offset + array.tobytes())
    return VectorFile(path, offset, array.shape, array.dtype)


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("views", [1, 2])
def test_rows_of_a_file_are_those_of_the_array_as_float32(tmp_path, dtype, views):
    array = numbers((20, views, 7), dtype)
    rows = np.array([3, 4, 5, 0, 19, 18, 3, 3, 7, 8])
    for source in (stored(tmp_path / "file", array), VectorArray(array)):
        read = source.read(rows)
        assert read.dtype == np.float32
        assert read.shape == (10, views, 7)
        for got, row in zip(read, rows, strict=True):
            assert got.tolist() == np.float32(array[row]).tolist()


def test_conversion_is_by_pieces_that_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setattr("gradrev_jax.data.vector_rows.CHUNK", 3 * 5 * 2)
    array = numbers((20, 1, 5), "<f2")
    rows = np.random.default_rng(1).permutation(20)
    assert np.array_equal(stored(tmp_path / "file", array).read(rows), array[rows].astype(np.float32))


def test_a_read_that_the_system_cuts_short_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("gradrev_jax.data.vector_rows.LARGEST_CALL", 3)
    array = numbers((4, 1, 5))
    assert np.array_equal(stored(tmp_path / "file", array).read(np.arange(4)), array)


def test_rows_that_follow_each_other_are_read_by_one_call(tmp_path, monkeypatch):
    calls, preadv = [], os.preadv
    source = stored(tmp_path / "file", numbers((50, 2, 3)), offset=8)

    def record(descriptor, buffers, position):
        calls.append((position, sum(map(len, buffers))))
        return preadv(descriptor, buffers, position)

    monkeypatch.setattr(os, "preadv", record)
    source.read(np.array([4, 5, 6, 9, 8, 10, 11]))
    assert calls == [(8 + 4 * 24, 72), (8 + 9 * 24, 24), (8 + 8 * 24, 24), (8 + 10 * 24, 48)]


def test_a_number_beyond_float32_is_infinite(tmp_path):
    array = np.array([[[1e300, 1.0]]])
    for source in (stored(tmp_path / "file", array), VectorArray(array)):
        assert source.read(np.array([0])).tolist() == [[[np.inf, 1.0]]]


@pytest.mark.parametrize("row", [-1, 4])
def test_rows_that_are_not_there_are_an_error(tmp_path, row):
    array = numbers((4, 1, 5))
    for source in (stored(tmp_path / "file", array), VectorArray(array)):
        with pytest.raises(IndexError, match="of 4"):
            source.read(np.array([0, row]))
        with pytest.raises(IndexError, match="of 4"):
            Vectors(source, np.array([row]))


def test_a_file_that_is_cut_while_open_is_an_error_with_its_name(tmp_path):
    source = stored(tmp_path / "file", numbers((4, 1, 5)), offset=0)
    os.truncate(tmp_path / "file", 70)
    assert source.read(np.arange(3)).shape == (3, 1, 5)
    with pytest.raises(DataError, match=r"file has become shorter .* ends before byte 80; restore"):
        source.read(np.arange(4))


def test_a_failure_of_the_system_is_an_error_with_the_files_name(tmp_path, monkeypatch):
    source = stored(tmp_path / "file", numbers((4, 1, 5)))

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(DataError, match="file cannot be read: Input/output error"):
        source.read(np.arange(3))


def test_the_file_is_closed_with_the_object(tmp_path):
    source = stored(tmp_path / "file", numbers((4, 1, 5)))
    descriptor = source._descriptor
    os.fstat(descriptor)
    del source
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_no_rows_are_an_empty_array(tmp_path):
    source = stored(tmp_path / "file", numbers((4, 1, 5)))
    assert source.read(np.arange(0)).shape == (0, 1, 5)
    vectors = Vectors(source, np.arange(0))
    assert (len(vectors), vectors.nbytes, np.asarray(vectors).shape) == (0, 0, (0, 1, 5))


def test_threads_share_one_file(tmp_path):
    array = numbers((200, 1, 64), "<f8")
    vectors = Vectors(stored(tmp_path / "file", array), np.arange(200))
    orders = [np.random.default_rng(seed).permutation(200) for seed in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for order, read in zip(orders, pool.map(vectors.__getitem__, orders), strict=True):
            assert np.array_equal(read, array[order].astype(np.float32))


def test_indices_of_any_shape_give_rows_of_that_shape(tmp_path):
    array = numbers((9, 2, 5))
    order = np.array([8, 1, 2, 3, 0])
    vectors, whole = Vectors(stored(tmp_path / "file", array), order), array[order]
    indices = [
        *(np.array([[0, 4], [1, 1], [3, 2]]), np.array([[[2]]]), np.arange(0), np.array(3)),
        *(0, -1, np.int32(2), [1, -2], slice(None), slice(1, 3), slice(None, None, -2), slice(4, 2)),
    ]
    for index in indices:
        assert np.array_equal(vectors[index], whole[index]), index
        assert vectors[index].dtype == np.float32
    for index in (5, -6, [0, 5]):
        with pytest.raises(IndexError):
            vectors[index]
    assert np.array_equal(list(vectors), whole)


def test_the_shape_and_size_are_those_of_the_rows_in_use(tmp_path):
    vectors = Vectors(stored(tmp_path / "file", numbers((9, 2, 5), "<f2")), np.array([8, 1, 2]))
    assert (len(vectors), vectors.shape, vectors.ndim) == (3, (3, 2, 5), 3)
    assert (vectors.dtype, vectors.nbytes) == (np.float32, 3 * 2 * 5 * 4)
    assert np.asarray(vectors).nbytes == vectors.nbytes
    assert np.asarray(vectors, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(vectors, copy=False)


def test_taking_rows_twice_composes_and_reads_nothing(tmp_path, monkeypatch):
    array = numbers((9, 1, 5))
    vectors = Vectors(stored(tmp_path / "file", array), np.arange(9)[::-1])
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", None)
        taken = vectors.take(np.array([1, 2, 5])).take(np.array([2, 0]))
    assert np.array_equal(np.asarray(taken), array[[3, 7]])


def test_the_digest_is_of_the_numbers_whatever_holds_them(tmp_path):
    array = np.arange(40).reshape(4, 2, 5)
    sources = [
        *(
            stored(tmp_path / f"{n}", array.astype(dtype))
            for n, dtype in enumerate(("<f4", ">f4", "<i8", "<f2"))
        ),
        VectorArray(array),
    ]
    expected = hashlib.blake2b(np.arange(10, 20).astype("<f4").tobytes(), digest_size=16).digest()
    assert {Vectors(source, np.array([3, 1])).digest(1) for source in sources} == {expected}
    for source in sources:
        vectors = Vectors(source, np.array([3, 1, 0]))
        assert vectors.digests(np.array([2, 1])) == [vectors.digest(2), expected]
        assert vectors.digests(np.array([], int)) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_random_rows_of_a_large_file_leave_no_memory_behind(tmp_path):
    """A memory map of the file would leave a page or more of each row that was touched: 200 MiB here."""
    rows, width = 1_000_000, 768
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(rows * width * 4)
    vectors = Vectors(VectorFile(tmp_path / "sparse", 0, (rows, 1, width), "<f4"), np.arange(rows))
    rng = np.random.default_rng(0)
    vectors[rng.integers(0, rows, 128)]
    before = resident_bytes()
    for _ in range(400):
        assert not vectors[rng.integers(0, rows, 128)].any()
    assert resident_bytes() - before < 8 * 2**20
