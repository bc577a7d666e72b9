import numpy as np
import pytest
from matplotlib.figure import Figure

from configs import default
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.metrics import retrieval_scores
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.evaluation import report
from gradrev_jax.evaluation.comparison import report as comparison_report
from gradrev_jax.evaluation.scores import Scores, accuracies, mean_scores, write_scores
from gradrev_jax.runs import workdir


@pytest.fixture
def schema():
    return AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


@pytest.fixture
def blank_pictures(monkeypatch):
    """Empty pictures in reports: drawing real ones takes longer than the rest, and has tests of its own."""
    for module, names in (
        (report, ("hit_rate_curve", "cross_accuracy_heat_map", "retrieval_grid", "training_curves")),
        (comparison_report, ("hit_rate_curves", "cross_accuracy_heat_maps")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *arguments: Figure(figsize=(1, 1)))


@pytest.fixture
def make_scores(schema):
    """Scores of a system that finds neighbours at random, and names labels right as often as told."""

    def make(seed=0, *, gallery=24, accuracy=0.6, ks=(1, 10, 30), depth=10, labels=None):
        rng = np.random.default_rng(seed)
        if labels is None:
            labels = np.random.default_rng(0).integers(-1, (3, 2), (gallery, 2))
        queries = generate_queries(labels, schema)
        found = np.stack(
            [np.resize(rng.permutation(len(labels)), max(*ks, depth)) for _ in range(len(queries))]
        )
        by_query = retrieval_scores(labels[found], queries.targets, queries.changed, ks)
        return Scores(
            **vars(queries),
            neighbors=found[:, :depth].astype(np.int32),
            ks=np.asarray(ks),
            by_metric={name: values.astype(np.float32) for name, values in by_query.items()},
            labels=labels.astype(np.int32),
            correct=np.where(labels < 0, -1, rng.random(labels.shape) < accuracy).astype(np.int8),
        )

    return make


@pytest.fixture
def make_run(make_scores, schema, tmp_path):
    """An evaluated run's folder as training and evaluation leave it, less what a comparison does not read."""

    def make(
        name, seed=0, *, stages=("encoder",), stage=None, fields=None, protocol=None, chosen=None, **scores
    ):
        directory = tmp_path / name
        config = default.get_config().unlock()
        config.stages = stages
        config.update_from_flattened_dict(fields or {})
        workdir.write_json(directory / workdir.CONFIG, config.to_dict())
        workdir.claim_schema(directory, schema)
        stage = stage or stages[-1]
        found = make_scores(seed, **scores)
        means = mean_scores(found.by_metric, found.ks.tolist())
        macro, micro = accuracies(found.right_answers()).tolist()
        folder = workdir.report_directory(directory, stage, stages)
        workdir.write_json(
            folder / "metrics.json",
            {
                "stage": stage,
                "step": 100 + seed,
                "representation": "features",
                "look": None,
                "normalize": "attribute",
                "edit": "add",
                "strength": 1.0,
                **(chosen or {}),
                "protocol": {**config.protocol.to_dict(), **(protocol or {})},
                "attribute_accuracy": {"macro": macro, "micro": micro},
                "majority_accuracy": {"macro": 0.25, "micro": 0.2},
                "cross_accuracy": {"attributes": list(schema.names), "matrix": [[macro, 0.1], [None, micro]]},
                "baselines": {"no_manipulation": dict.fromkeys(means, dict.fromkeys(means["ndcg"], 0.125))},
                **means,
            },
        )
        write_scores(folder / "queries.npz", found)
        return directory

    return make
