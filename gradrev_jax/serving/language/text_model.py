"""A small BERT in NumPy: sentences to vectors, without PyTorch and without compiling."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int


class TextModel:
    """A BERT whose sentence vector is the mean over its words, divided by its length.

    Args:
      tensors: its weights, by the names of the transformers library.
      heads: the number of heads of its attention.

    Raises:
      KeyError: a tensor is missing.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], heads: int) -> None:
        self._words = tensors["embeddings.word_embeddings.weight"]
        self._positions = tensors["embeddings.position_embeddings.weight"]
        self._kind = tensors["embeddings.token_type_embeddings.weight"][0]
        self._norm = _pair(tensors, "embeddings.LayerNorm")
        count = sum(name.endswith("attention.self.query.weight") for name in tensors)
        self._layers = [_Layer(tensors, f"encoder.layer.{i}", heads) for i in range(count)]

    def vectors(self, numbers: Int[np.ndarray, "T L"]) -> Float[np.ndarray, "T width"]:
        """Returns the unit vectors of texts that have equally many pieces.

        Args:
          numbers: the numbers of their pieces, [T, L].
        """
        x = self._words[numbers] + self._positions[: numbers.shape[1]] + self._kind
        x = _layer_norm(x, *self._norm)
        for layer in self._layers:
            x = layer(x)
        mean = x.mean(axis=1)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


class _Layer:
    """A layer: attention, and an MLP, each added to its input and normalised."""

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str, heads: int) -> None:
        self._heads = heads
        parts = [_pair(tensors, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        self._qkv = (
            np.concatenate([weight for weight, _ in parts]),
            np.concatenate([bias for _, bias in parts]),
        )
        self._out = _pair(tensors, f"{name}.attention.output.dense")
        self._norm1 = _pair(tensors, f"{name}.attention.output.LayerNorm")
        self._wide = _pair(tensors, f"{name}.intermediate.dense")
        self._narrow = _pair(tensors, f"{name}.output.dense")
        self._norm2 = _pair(tensors, f"{name}.output.LayerNorm")

    def __call__(self, x: Float[np.ndarray, "T L width"]) -> Float[np.ndarray, "T L width"]:
        texts, length, _ = x.shape
        # [3, T, heads, L, width of a head]
        qkv = _linear(x, *self._qkv).reshape(texts, length, 3, self._heads, -1)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        weights = _softmax(query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(query.shape[-1])))
        attended = (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = _layer_norm(x + _linear(attended, *self._out), *self._norm1)
        return _layer_norm(x + _linear(_gelu(_linear(x, *self._wide)), *self._narrow), *self._norm2)


def _pair(tensors: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    # One product of matrices: NumPy would multiply a stack of them one by one.
    return (x.reshape(-1, x.shape[-1]) @ weight.T + bias).reshape(*x.shape[:-1], -1)


def _layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.float32(1e-12)) * weight + bias


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _gelu(x: np.ndarray) -> np.ndarray:
    """Computes x times the normal distribution function of x.

    NumPy has no error function; this is the rational approximation 7.1.26 of Abramowitz and Stegun,
    Handbook of Mathematical Functions (1964), which is off by 1.5e-7 at most.
    """
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    polynomial = np.float32(0)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = (polynomial + np.float32(factor)) * t
    tail = polynomial * np.exp(-z * z)  # 1 - erf(z)
    return x * np.where(x > 0, 1 - tail / 2, tail / 2)
