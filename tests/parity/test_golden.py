"""gradrev_jax against golden.npz, which the PyTorch reference wrote; make_golden.py says how."""

import pytest

from tests.parity import cases, golden, ours
from tests.parity.comparing import assert_metrics, assert_parity, assert_retrieval

SLOW = ("shared", "memory_224")  # what is in them the others have, at the other size


@pytest.fixture(scope="module")
def arrays():
    return golden.read()


def test_it_says_what_it_was_made_with(arrays):
    assert set(golden.under(arrays, "versions")) == {"torch", "numpy", "faiss"}


@pytest.mark.long
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.name in SLOW else [])
        for case in cases.GOLDEN
    ],
)
def test_training(arrays, case):
    weights, batch, expected = golden.of_case(arrays, case)
    assert_parity(case, ours.run(case, weights, batch), expected)


@pytest.mark.long
def test_retrieval(arrays):
    queries, neighbors, expected = golden.retrieval(arrays)
    assert_retrieval(queries, neighbors, cases.SIZES)
    assert_metrics(queries, neighbors, expected)
