import pathlib
import re

import pytest

from benchmarks import engines
from benchmarks.schemas import SHOPPING100K_SIZES
from benchmarks.side_by_side import tables


@pytest.mark.slow  # it starts a process that imports everything
def test_both_find_the_same_and_everything_is_measured(tmp_path, capfd):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    result = engines.main(["--tiny", f"--out={tmp_path}"])
    engine = result["milvus-lite"]
    assert (engine["queries_with_other_rows"], engine["uncertain"]) == (0, 0)
    assert engine["largest_difference_of_distances"] < 1e-6
    assert engine["stored_bytes"] > engine["vector_bytes"] > 0
    assert engine["any"]["median_seconds"] > result["ItemGallery"]["again"]["median_seconds"] > 0
    assert 0.9 < result["kept_by_float16"] <= 1
    assert "Traceback" not in capfd.readouterr().err


RESULT = {
    "sizes": {"gallery": 20000, "dim": 340, "queries": 1000, "k": 20, "attributes": 12},
    "ManipulationIndex": {"median_seconds": 0.1, "p99_seconds": 0.2},
    "ItemGallery": {
        name: {"median_seconds": 0.001, "p99_seconds": 0.002} for name in ("first", "again", "filtered")
    },
    "milvus-lite": {
        **{name: {"median_seconds": 0.5, "p99_seconds": 0.9} for name in ("any", "filtered")},
        "stored_bytes": 20000 * 32768,
        "peak_bytes": 2**31,
        "imported_bytes": 2**30,
        "filling_seconds": 61.0,
        "opening_seconds": 2.5,
    },
}


def test_the_table_has_milliseconds_of_both_and_what_the_engine_needs():
    lines = tables.engines_table(RESULT).splitlines()
    assert lines[0] == "| 20,000 garments of 4,080 numbers, 1,000 queries, k = 20 | median, ms | 99 %, ms |"
    assert "| `ManipulationIndex`, another item | 100.0 | 200.0 |" in lines
    assert "| milvus-lite, filtered by one label | 500.0 | 900.0 |" in lines
    needs = tables.engine_needs_table(RESULT).splitlines()
    assert needs[-1] == "| 61 | 2.5 | 32,768 | 1.00 |"


def test_the_memory_of_large_galleries_follows_from_their_bytes():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:features|`posterior`|`discriminant`) (\|[\d,.| ]+)\|$", text, re.MULTILINE)
    table = [[float(cell.replace(",", "")) for cell in row.split("|")[1:]] for row in rows]
    widest = max(SHOPPING100K_SIZES)
    assert [numbers for numbers, *_ in table] == [12 * 340, 12 * widest, 12 * (widest - 1)]
    for numbers, *shown in table:
        gigabytes = [numbers * size / 2**30 for size in (4e6, 4e7, 4e8, 2e8)]
        assert shown == [round(gigabytes[0], 1), *(round(number) for number in gigabytes[1:])]
