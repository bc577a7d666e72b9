import json

import pytest

from benchmarks.photos import SIZES, main


@pytest.mark.long
def test_a_photograph_is_timed_up_to_its_results(tmp_path):
    result = main(["--tiny", f"--out={tmp_path}"])
    (path,) = tmp_path.glob("photos_*.json")
    recorded = json.loads(path.read_text())
    assert recorded["pixels"] == result["pixels"]
    for size in SIZES:
        times = result["pixels"][str(size)]
        assert 0 < times["least"] <= times["median"] <= times["most"]
