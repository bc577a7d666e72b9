import json

import jax
import pytest

from benchmarks import card


@pytest.fixture
def clock(monkeypatch):
    """Each measurement takes 2 seconds."""
    now = iter(range(0, 1000, 2))
    monkeypatch.setattr(card.time, "perf_counter", lambda: next(now))


def test_rates_are_amounts_over_seconds(clock):
    rate = {"median": 5.0, "least": 5.0, "most": 5.0, "count": card.REPEATS}
    assert card.rates(lambda: None, 10.0) == rate


def test_a_burst_counts_all_its_products(clock):
    assert card.matrix_rate("float32", 8, burst=3)["median"] == 3 * 2 * 8**3 / 2


def test_a_copy_counts_what_is_read_and_what_is_written(clock):
    assert card.copy_rate(1024)["median"] == 2 * 1024 / 2
    assert card.transfer_rate(1024)["median"] == 1024 / 2


def test_the_result_is_filed_under_the_machine(tmp_path, capsys):
    result = card.main(["--tiny", f"--out={tmp_path}"])
    assert json.loads((tmp_path / "card_cpu.json").read_text())["card"] == jax.devices()[0].device_kind
    assert set(result["matrix_flop_per_second"]) == {"bfloat16", "float32"}  # a CPU has no TF32
    assert "matrix products, bfloat16: " in capsys.readouterr().out
