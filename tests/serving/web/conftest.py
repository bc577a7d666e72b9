import pytest

from gradrev_jax.serving.web.app import create_app
from tests.serving.web.client import Client
from tests.serving.web.described import Described
from tests.serving.web.fake import FakeRetriever, fake_words


@pytest.fixture(scope="session")
def shop():
    return FakeRetriever()


@pytest.fixture(scope="session")
def described():
    return Described()


@pytest.fixture
def make_client(shop, described):
    """Makes clients whose every answer must be one that the API's description has."""

    def make(shop=shop, **options):
        app = create_app(shop, **{"words": fake_words, "hosts": ("localhost",), **options})
        return Client(app, check=described.check)

    return make


@pytest.fixture
def client(make_client):
    return make_client()
