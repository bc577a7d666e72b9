from gradrev_jax.evaluation.scores import write_scores
from gradrev_jax.runs import workdir


def write_short_report(directory, *, metrics, scores, wait_for_all, **rest):
    """In place of ``write_report``, whose pictures and text have tests of their own: writes the numbers."""
    directory.mkdir(exist_ok=True)
    workdir.write_json(directory / "metrics.json", wait_for_all())
    write_scores(directory / "queries.npz", scores)
