import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import search
from benchmarks.evaluation import random_evaluation
from gradrev_jax import ManipulationIndex, class_prototypes


@pytest.mark.slow  # the dry run of on_gpu.sh runs it, too
def test_everything_is_measured_and_right(tmp_path):
    result = search.main(["--tiny", "--repeats=2", f"--out={tmp_path}"])
    assert (tmp_path / "search_cpu.json").exists()
    for name in ("evaluation", "evaluation_without_classes"):
        assert result[name]["gradrev_jax"]["median_seconds"] > 0
        assert result[name]["largest_excess_of_a_squared_distance"] < 1e-5
    assert [case["rows"] for case in result["one_more_manipulation"]] == [500, 700]
    for case in result["one_more_manipulation"]:
        assert case["gradrev_jax"]["p99_seconds"] >= case["gradrev_jax"]["median_seconds"] > 0


def test_a_gallery_that_does_not_fit_is_said_and_skipped(monkeypatch):
    monkeypatch.setattr(search, "free_bytes", lambda device: 2**20)
    case = search.one_more(10_000, 3, tiny=True)
    assert case["skipped"] == "needs 0.0 GiB on the device, 0.0 GiB are free"
    assert "gradrev_jax" not in case


def test_a_gallery_drawn_on_a_device_has_no_row_left_out(monkeypatch):
    monkeypatch.setattr(search, "ROWS_AT_ONCE", 40)
    gallery = np.asarray(search.gallery_on_device(90, 5))
    assert gallery.shape == (90, 12, 5)
    assert (gallery != 0).all()
    assert abs(gallery.mean()) < 0.05
    assert abs(gallery.std() - 1) < 0.05
    assert len(np.unique(gallery)) > 0.99 * gallery.size  # no chunk is another's copy


def test_torch_finds_the_same_rows(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(search, "TORCH_QUERIES", 16)
    features, labels, queries, schema = random_evaluation(300, 10, 40, 4)
    memory = np.asarray(class_prototypes(features, labels, schema))
    arguments = queries.reference, queries.indicators
    theirs = search.torch_search(torch, features, memory, *arguments, k=5, device="cpu")
    assert search.excess(features, memory, *arguments, theirs, 40) < 1e-5
    index = ManipulationIndex.build(features, memory, schema)
    ours = index.search(reference_ids=arguments[0], indicators=arguments[1], k=5)
    np.testing.assert_array_equal(theirs, ours.indices)


def test_torch_reads_the_gallery_where_jax_has_it():
    torch = pytest.importorskip("torch")
    times = search.torch_query_times(torch, jnp.ones((20, 3, 10)))
    assert len(times) == 10
    assert min(times) > 0
