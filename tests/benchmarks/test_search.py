from benchmarks import search


def test_everything_is_measured_and_right(tmp_path):
    result = search.main(["--tiny", "--repeats=2", f"--out={tmp_path}"])
    assert (tmp_path / "search_cpu.json").exists()
    assert result["evaluation"]["gradrev_jax"]["median_seconds"] > 0
    assert result["evaluation"]["largest_excess_of_a_squared_distance"] < 1e-5
    assert [case["rows"] for case in result["one_more_manipulation"]] == [500, 700]
    for case in result["one_more_manipulation"]:
        assert case["gradrev_jax"]["p99_seconds"] >= case["gradrev_jax"]["median_seconds"] > 0
