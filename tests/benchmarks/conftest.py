import pytest

from gradrev_jax.evaluation import run as evaluation
from tests.short_report import write_short_report


@pytest.fixture
def no_report(monkeypatch):
    """Reports without pictures and text, which have tests of their own."""
    monkeypatch.setattr(evaluation, "write_report", write_short_report)
