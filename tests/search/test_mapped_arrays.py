import numpy as np
import pytest

from gradrev_jax.search.mapped_arrays import map_array


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rows.npy is cut short or damaged"),
        (b"\x93NUMPY\1\0\x08\0{'descr'", "rows.npy is cut short or damaged"),
        (b"\x80\x04N.", "rows.npy is cut short or damaged"),
        (np.arange(3), "rows.npy has numbers of the type int64"),
        (np.arange(3, dtype=">f4"), "rows.npy has numbers of the type >f4"),
        (np.array(["a"]), "rows.npy has numbers of the type <U1"),
        ({"a": np.ones(3)}, "rows.npy is an archive, and no array"),
    ],
)
def test_a_mapped_array_is_one_of_numbers(tmp_path, content, message):
    path = tmp_path / "rows.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with path.open("wb") as file:
            np.savez(file, **content) if isinstance(content, dict) else np.save(file, content)
    with pytest.raises(ValueError, match=message):
        map_array(path)
