"""Shapes in signatures are checked in every test: jaxtyping's annotations, enforced by beartype."""

import jaxtyping
import numpy as np
import pytest

# Before the first import of the package, so that every function in it is wrapped.
jaxtyping.install_import_hook("gradrev_jax", "beartype.beartype")


@pytest.fixture
def unchecked():
    """Signatures unchecked, as a user has them: what does not fit must meet the code's own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def rng():
    """Seeded random numbers."""
    return np.random.default_rng(0)
