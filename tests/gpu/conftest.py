"""Tests of the default device beside float64 on a CPU: ``pytest -m gpu``.

On a GPU they are about it, at the paper's sizes. Elsewhere they pass too, at small sizes, so that they cannot
rot; benchmarks/on_gpu.sh runs them in both cases.
"""

import jax
import pytest

SMALL = {"image": 64, "batch": 4, "width": 1 / 16, "dim": 8, "gallery": 400, "queries": 60}
PAPER = {"image": 224, "batch": 8, "width": 1.0, "dim": 340, "gallery": 20_000, "queries": 1_000}


@pytest.fixture(scope="session")
def sizes():
    """The paper's on a GPU, small ones elsewhere."""
    return PAPER if jax.default_backend() == "gpu" else SMALL


@pytest.fixture
def full_float32():
    """Products of float32 in float32, and not in TF32, which a GPU takes unless it is told."""
    with jax.default_matmul_precision("highest"):
        yield
