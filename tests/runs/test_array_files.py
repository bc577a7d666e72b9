import zipfile

import numpy as np
import pytest

from gradrev_jax.runs.array_files import load_arrays


@pytest.mark.parametrize("content", [b"", b"PK\3\4", np.ones(3), {"a": 3}])
def test_arrays_are_loaded_of_archives_of_arrays_alone(tmp_path, content):
    path = tmp_path / "arrays.npz"
    if isinstance(content, dict):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "no array")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with path.open("wb") as file:
            np.save(file, content)
    with pytest.raises(ValueError, match="."):
        load_arrays(path)
