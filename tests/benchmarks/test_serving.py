import json

import numpy as np
import pytest

from benchmarks import serving


@pytest.mark.long
def test_it_measures_a_small_gallery(tmp_path, monkeypatch):
    (tmp_path / "small_gallery.py").write_text(
        "from benchmarks.serving import random_retriever\n\n\n"
        "def make():\n    return random_retriever(200, 4)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = ["--seconds=1", "--rate=40", "--clients=2", f"--out={tmp_path}"]
    result = serving.main(["--retriever=small_gallery:make", *options])
    assert (result["items"], result["requests"], result["errors"]) == (200, 40, 0)
    assert 0 < result["milliseconds"]["p50"] <= result["milliseconds"]["p99"] <= result["milliseconds"]["max"]
    assert result["memory_mib"]["largest"] > 0
    (file,) = tmp_path.glob("serving_*.json")
    assert json.loads(file.read_text())["requests"] == 40


def test_random_garments_are_near_those_with_their_labels():
    shop = serving.random_retriever(400, 16)
    assert np.mean(shop.predicted == shop.labels) > 0.5
    found = shop.item(7).search(20)
    same = (shop.labels == shop.labels[7]).mean()
    assert (found.labels == shop.labels[7]).mean() > same + 0.1
