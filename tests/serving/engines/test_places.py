import pathlib

import pytest

from gradrev_jax.errors import ConfigError
from gradrev_jax.serving.engines.places import COLLECTION, parse_place


def test_a_path_is_an_embedded_engine():
    place = parse_place("milvus:~/shop.db")
    assert place.path == pathlib.Path.home() / "shop.db"
    assert (place.address, place.collection, place.text) == (str(place.path), COLLECTION, str(place.path))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://localhost:19530", "http://localhost:19530"),
        ("http://localhost", "http://localhost:19530"),
        ("https://user:secret@milvus.example/db#winter", "https://milvus.example:443#winter"),
    ],
)
def test_a_url_is_a_server_and_its_credentials_are_not_shown(text, shown):
    place = parse_place(f"milvus:{text}")
    assert (place.address, place.path, place.text) == (text.partition("#")[0], None, shown)


@pytest.mark.parametrize(
    "text",
    [
        *("", "milvus", "milvus:", "shop.db", "faiss:shop.db", "milvus:shop", "milvus:http://"),
        *(
            "milvus:http://host:port",
            "milvus:ftp://host/a.db",
            "milvus:a.db#",
            "milvus:a.db#1",
            "milvus:a.db#x-y",
        ),
    ],
)
def test_anything_else_is_refused_with_the_forms_there_are(text):
    with pytest.raises(ConfigError, match=r"milvus:PATH.db|letters, digits") as caught:
        parse_place(text)
    assert caught.value.arguments == ("engine",)
