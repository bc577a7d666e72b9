import pytest


@pytest.fixture(autouse=True, scope="module")
def _backbone(small_backbone):
    """The name ``small`` is known."""
