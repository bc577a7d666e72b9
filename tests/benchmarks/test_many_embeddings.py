import json

import numpy as np
import pytest

from benchmarks import many_embeddings


def test_a_catalogue_has_a_row_for_every_image(tmp_path, monkeypatch):
    monkeypatch.setattr(many_embeddings, "CHUNK", 7)
    many_embeddings.write_catalogue(tmp_path, 20, 3)
    embeddings = np.load(tmp_path / "embeddings.npy")
    assert (embeddings.shape, embeddings.dtype) == ((20, 3), np.float32)
    assert len(np.unique(embeddings)) == 60
    header, *rows = (tmp_path / "attributes.csv").read_text().splitlines()
    assert header.startswith("image,split,attribute 0,")
    assert [row.split(",")[0] for row in rows] == [f"images/{n:08d}.jpg" for n in range(20)]


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match="GB free, and .* GB are needed"):
        many_embeddings.write_catalogue(tmp_path, 10**12, 1000)
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_a_training_is_measured_in_a_process_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(many_embeddings, "SHOPPING100K_SIZES", (3, 2))
    many_embeddings.write_catalogue(tmp_path, 800, 8)
    measured = many_embeddings.main([f"--folder={tmp_path}", "--steps=20", "--batch=16"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == measured
    assert measured["peak_bytes"] >= measured["peak_bytes_of_opening"] > 0
    assert measured["peak_bytes"] >= measured["peak_anonymous_bytes"] > 0
    assert measured["peak_file_bytes"] > 0
    assert measured["opening_seconds"] > 0
    assert 0 < measured["step_seconds"] < measured["stage_seconds"]


def test_all_rows_and_a_tenth_of_them_are_measured(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        many_embeddings, "measure", lambda rows, **sizes: asked.append(rows) or {"rows": rows}
    )
    result = many_embeddings.main(["--rows=50", f"--out={tmp_path}"])
    assert asked == [5, 50]
    written = json.loads((tmp_path / "many_embeddings.json").read_text())
    assert written["runs"] == result["runs"] == [{"rows": 5}, {"rows": 50}]
    assert written["sizes"]["attributes"] == 12
