import pytest

from gradrev_jax.evaluation import run as evaluation
from gradrev_jax.evaluation.scores import write_scores
from gradrev_jax.runs import workdir


@pytest.fixture
def no_report(monkeypatch):
    """Reports without pictures and text, which have tests of their own."""

    def write(directory, *, metrics, scores, complete, **rest):
        directory.mkdir(exist_ok=True)
        workdir.write_json(directory / "metrics.json", complete())
        write_scores(directory / "queries.npz", scores)

    monkeypatch.setattr(evaluation, "write_report", write)
