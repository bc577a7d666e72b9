import jax
import pytest


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The ways that the search takes on other devices than a CPU, in programs that are traced anew."""
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    jax.clear_caches()
