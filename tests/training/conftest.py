"""A backbone that compiles in no time, for tests of the loop and of the objectives around a network."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def is_there(small_backbone):
    """Registers the backbone for all tests of this folder."""


@pytest.fixture
def tiny_config(tiny_config):
    """The miniature run with that backbone; tests/commands and tests/evaluation run AlexNet's."""
    tiny_config.model.backbone = "small"
    return tiny_config
