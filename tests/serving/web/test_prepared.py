"""What is loaded once the server answers: the gallery, the text model, the network."""

import numpy as np
import pytest

from gradrev_jax import AttributeSchema
from gradrev_jax.errors import ConfigError, DataError, WeightsError, WorkdirError
from gradrev_jax.serving.language import reader
from gradrev_jax.serving.language.reader import Words
from gradrev_jax.serving.web.run import prepare, serve_run
from gradrev_jax.serving.web.server import listen
from tests.serving.web.fake import SCHEMA, FakeItem, FakeRetriever


class Vectors:
    """A text model that knows one synonym."""

    def similar(self, asked, known):
        return np.array([[float("quux" in word and "dress" in each) for each in known] for word in asked])


def test_synonyms_are_known_once_the_text_model_is_loaded(monkeypatch):
    read = Words(AttributeSchema(("category",), (("dress", "shirt"),)))
    monkeypatch.setattr(reader, "load_word_vectors", Vectors)
    assert read("a quux").unknown == ("quux",)
    assert read.load()
    assert read("a quux").changes == (("category", "dress", 1.0, ()),)


def test_without_the_text_model_there_are_no_synonyms(monkeypatch):
    def missing():
        raise ConfigError("not installed")

    read = Words(SCHEMA)
    monkeypatch.setattr(reader, "load_word_vectors", missing)
    assert not read.load()
    assert read("a red quux").changes == (("color", "red", 1.0, ()),)


def test_everything_is_prepared_whatever_fails(monkeypatch, capsys):
    def fail(kind, message):
        def failing(*arguments):
            raise kind(message)

        return failing

    shop, searched, search = FakeRetriever(10), [], FakeItem.search
    monkeypatch.setattr(
        FakeItem, "search", lambda *given, **more: searched.append(1) or search(*given, **more)
    )
    monkeypatch.setattr(reader, "load_word_vectors", fail(WeightsError, "the text model is damaged"))
    monkeypatch.setattr(shop, "warm", fail(DataError, "the run sees no photographs"))
    prepare(shop, Words(SCHEMA))
    assert searched
    said = "".join(capsys.readouterr())
    assert "note: the text model is damaged" in said
    assert "note: the run sees no photographs" in said


def test_the_network_is_loaded(monkeypatch):
    monkeypatch.setattr(reader, "load_word_vectors", Vectors)
    shop = FakeRetriever(10)
    prepare(shop, Words(SCHEMA))
    assert shop.is_warm


def test_a_run_that_cannot_be_opened_leaves_the_port_free(tmp_path):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WorkdirError, match="is not a run"):
        serve_run(tmp_path, port=port)
    listen("127.0.0.1", port).close()
