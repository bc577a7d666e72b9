import numpy as np
import pytest

from configs import default
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.metrics import retrieval_scores
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.evaluation.scores import RETRIEVAL, Scores, accuracies, write_scores
from gradrev_jax.runs import workdir


@pytest.fixture
def schema():
    return AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


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
            **{name: values.astype(np.float32) for name, values in by_query.items()},
            neighbors=found[:, :depth].astype(np.int32),
            ks=np.asarray(ks),
            labels=labels.astype(np.int32),
            correct=np.where(labels < 0, -1, rng.random(labels.shape) < accuracy).astype(np.int8),
        )

    return make


@pytest.fixture
def make_run(make_scores, schema, tmp_path):
    """An evaluated run's folder as training and evaluation leave it, less what a comparison does not read."""

    def make(name, seed=0, *, stages=("encoder",), stage=None, fields=None, protocol=None, **scores):
        directory = tmp_path / name
        config = default.get_config().unlock()
        config.stages = stages
        config.update_from_flattened_dict(fields or {})
        workdir.write_json(directory / workdir.CONFIG, config.to_dict())
        workdir.claim_schema(directory, schema)
        stage = stage or stages[-1]
        found = make_scores(seed, **scores)
        means = {
            metric: dict(
                zip(map(str, found.ks.tolist()), getattr(found, metric).mean(0).tolist(), strict=True)
            )
            for metric in RETRIEVAL
        }
        macro, micro = accuracies(found.right_answers()).tolist()
        report = workdir.report_directory(directory, stage, stages)
        workdir.write_json(
            report / "metrics.json",
            {
                "stage": stage,
                "step": 100 + seed,
                "strength": 1.0,
                "protocol": {**config.protocol.to_dict(), **(protocol or {})},
                "attribute_accuracy": {"macro": macro, "micro": micro},
                "majority_accuracy": {"macro": 0.25, "micro": 0.2},
                "cross_accuracy": {"attributes": list(schema.names), "matrix": [[macro, 0.1], [None, micro]]},
                "baselines": {
                    "no_manipulation": dict.fromkeys(RETRIEVAL, dict.fromkeys(means["ndcg"], 0.125))
                },
                **means,
            },
        )
        write_scores(report / "queries.npz", found)
        return directory

    return make
