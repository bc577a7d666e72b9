from gradrev_jax.evaluation.scores import write_scores
from gradrev_jax.runs import workdir


def write_short_report(directory, *, metrics, scores, complete, **rest):
    """In place of ``write_report``, whose pictures and text have tests of their own: writes the numbers."""
    directory.mkdir(exist_ok=True)
    workdir.write_json(directory / "metrics.json", complete())
    write_scores(directory / "queries.npz", scores)
