"""gradrev_jax against the PyTorch reference itself, where torch is installed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("faiss")

from benchmarks.torch_reference import prototypes
from benchmarks.torch_reference.training import normalized
from gradrev_jax import class_prototypes
from gradrev_jax.models.torch_weights import memory_to_torch
from tests.parity import cases, golden, ours, reference
from tests.parity.comparing import assert_metrics, assert_parity, assert_retrieval, relative_difference


@pytest.fixture(scope="module")
def arrays():
    return golden.read()


@pytest.mark.parametrize("case", cases.GOLDEN, ids=lambda case: case.name)
def test_the_golden_file_is_what_the_reference_says(arrays, case):
    """Else ``python -m tests.parity.make_golden`` is due."""
    weights, batch, expected = golden.of_case(arrays, case)
    assert_parity(case, reference.run(case, weights, batch), expected)
    for name, weight in cases.make_weights(reference.shapes(case)).items():
        np.testing.assert_array_equal(weight, weights[name])


def test_the_golden_queries_are_answered_as_the_reference_does(arrays):
    queries, neighbors, metrics = golden.retrieval(arrays)
    found, scores = reference.retrieve(queries, cases.SIZES)
    np.testing.assert_array_equal(found, neighbors)
    for name, values in metrics.items():
        np.testing.assert_array_equal(scores[name], values)


@pytest.mark.parametrize("case", cases.LIVE, ids=lambda case: case.name)
def test_training(case):
    weights, batch = cases.make_weights(reference.shapes(case)), cases.make_batch(case)
    assert_parity(case, ours.run(case, weights, batch), reference.run(case, weights, batch))


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.FULL, ids=lambda case: case.name)
def test_training_at_full_width(case):
    test_training(case)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 4},
        {"seed": 5, "sizes": (4,)},
        pytest.param(
            {"sizes": cases.SHOPPING100K, "dim": 340, "gallery": 3000, "queries": 300}, marks=pytest.mark.slow
        ),
    ],
    ids=["tiny", "one_attribute", "full"],
)
def test_retrieval(fields):
    queries, sizes = cases.make_retrieval(**fields), fields.get("sizes", cases.SIZES)
    neighbors, expected = reference.retrieve(queries, sizes)
    assert_retrieval(queries, neighbors, sizes)
    assert_metrics(queries, neighbors, expected)


class EveryCandidateOnce:
    """In place of the reference's random draws, which then give the exact mean."""

    def choice(self, candidates, draws):
        return candidates


def test_prototypes():
    case = cases.Case("prototypes")
    schema = ours.make_schema(case.sizes)
    images = normalized(torch.tensor(cases.make_images(12, case.pixels)))
    labels = cases.make_batch(case).labels.reshape(12, -1)
    labels[: max(case.sizes)] = np.arange(max(case.sizes))[:, None] % case.sizes  # every value has an image
    (encoder,) = reference.modules(case)
    encoder.load_state_dict(
        {name: torch.tensor(weight) for name, weight in cases.make_weights(reference.shapes(case)).items()}
    )
    with torch.no_grad():
        features = torch.stack(encoder(images), dim=1).numpy()
    expected = prototypes.memory_weight(encoder.eval(), lambda row: images[row], labels, EveryCandidateOnce())
    found = memory_to_torch(class_prototypes(features, labels, schema))["Memory.weight"]
    assert relative_difference(found, expected.numpy()) < 1e-5
