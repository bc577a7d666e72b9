"""What is computed on both sides: models, weights, batches and queries, as NumPy arrays.

This module knows neither torch nor jax. reference.py and ours.py compute its cases, comparing.py compares
them; golden.npz has what the reference makes of those in ``GOLDEN``, and make_golden.py writes it.
"""

import dataclasses
import math
import zlib
from typing import NamedTuple

import numpy as np

SIZES = (3, 2, 4)  # values of each attribute
STEPS, LEARNING_RATE = 20, 1e-4
KS = (1, 2, 3, 5, 10, 20)  # cut-offs of the metrics


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and a loss.

    Attributes:
      name: of the test, and of its arrays in golden.npz.
      pixels: of the images, a side.
      stage: 1 trains the encoder, 2 encoder and memory.
      heads: ``shared`` or ``pairwise``.
      options: of the reference's ``encoder_losses``.
      tap: where the backbone is cut.
      width: of the backbone; 1/40 has 2, 5, 10, 6 and 6 filters and 102 units.
      feature_dim: d.
      sizes: number of values of each attribute.
      seed: of the images.
    """

    name: str
    pixels: int = 64
    stage: int = 1
    heads: str = "shared"
    options: dict = dataclasses.field(default_factory=dict)
    tap: str = "fc6_relu"
    width: float = 1 / 40
    feature_dim: int = 8
    sizes: tuple[int, ...] = SIZES
    seed: int = 1

    @property
    def steps(self) -> int:
        """Steps of Adam that are compared."""
        return 1 if self.full_width else STEPS

    @property
    def full_width(self) -> bool:
        """Whether it is the paper's network, with millions of activations."""
        return self.width == 1

    @property
    def mines(self) -> bool:
        """Whether the loss looks for semi-hard negatives."""
        return self.stage == 2 or "label_triplet_weight" in self.options

    def reads(self, name: str) -> bool:
        """Whether a parameter can change the loss.

        A classifier of a single value is always right, and of N x N all but N are idle without the reversal.
        """
        module, *place = name.split(".")
        if module != "attr_classifier":
            return True
        feature, attribute = int(place[0]), int(place[-3])
        with_reversal = self.stage == 1 and self.options.get("reversal", True)
        return self.sizes[attribute] > 1 and (feature == attribute or with_reversal)


ADDE_M = {"reversal": False, "w_cls": 0.2, "attribute_triplet_weight": 0.2, "label_triplet_weight": 1.0}
GOLDEN = [
    Case("shared"),
    Case("pairwise", heads="pairwise"),
    Case("adde_m", options=ADDE_M),
    Case("memory", stage=2),
    Case("shared_224", pixels=224),
    Case("memory_224", pixels=224, stage=2),
]
LIVE = [
    Case("pairwise_224", pixels=224, heads="pairwise"),
    Case("no_reversal", options={"reversal": False}),
    Case("weights_160", pixels=160, heads="pairwise", options={"beta": 0.3, "scale": 0.5, "w_cls": 0.7}),
    Case("both_288", pixels=288, options={**ADDE_M, "reversal": True}, tap="fc7", width=1 / 32),
    Case("memory_pairwise", stage=2, heads="pairwise", tap="fc6"),
    Case("adde_m_224", pixels=224, options=ADDE_M, tap="fc7_relu"),
    Case("single_value", sizes=(3, 1, 2)),
    Case("one_attribute", sizes=(4,)),
]
SHOPPING100K = (16, 17, 19, 14, 10, 15, 2, 11, 16, 7, 9, 15)
# With these images no activation of the first step is so near to 0 that its ReLU parts the two sides.
FULL = [
    Case(f"full_{name}", pixels=224, width=1.0, feature_dim=340, sizes=SHOPPING100K, seed=2, **fields)
    for name, fields in {
        "shared": {},
        "pairwise": {"heads": "pairwise"},
        "adde_m": {"options": ADDE_M},
        "memory": {"stage": 2},
    }.items()
]


class Result(NamedTuple):
    """What either side makes of a case; tensors by torch's names and in its layout.

    Attributes:
      features: [B, N, d], before training.
      terms: of the loss, before training.
      gradients: of the total, before training.
      parameters: after 20 steps of Adam.
    """

    features: np.ndarray
    terms: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]


class Batch(NamedTuple):
    """Triplets of images: references, positives, negatives. Stage 1 takes all of them as they are.

    Attributes:
      images: uint8 [3, B, S, S, 3].
      labels: int32 [3, B, N], -1 = not labelled.
      indicators: int8 [B, J], from the references' labels to the positives'.
    """

    images: np.ndarray
    labels: np.ndarray
    indicators: np.ndarray


def make_weights(
    shapes: dict[str, tuple[int, ...]], seed: int = 7, classifier_scale: float = 1.0
) -> dict[str, np.ndarray]:
    """Random weights of a state dict; those of a name and shape are the same in every model.

    He's scale keeps activations and gradients of one magnitude through all layers; biases are not 0. Of the
    first dozen seeds, 7 leaves the fewest units of the golden cases dead.
    """
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
        if name.startswith("attr_classifier"):
            scale *= classifier_scale
        weights[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return weights


def make_images(count: int, pixels: int, seed: int = 1) -> np.ndarray:
    """Random colours in 16 x 16 cells, on a white background as photographs of products have it.

    Where the colour is flat the maxima of a pooling window tie: torch gives the gradient to one of them,
    gradrev_jax shares it, and both must come to the same gradients of the weights.
    """
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (count, 1, 1, 3))  # or else all images are alike to the network
    cells = ((base + rng.integers(0, 256, (count, 16, 16, 3))) // 2).astype(np.uint8)
    cells[:, :3] = cells[:, :, :3] = 255
    return cells.repeat(pixels // 16, axis=1).repeat(pixels // 16, axis=2)


def make_batch(case: Case, triplets: int = 4, seed: int = 2) -> Batch:
    """A batch with missing labels, one image without any, and label rows that several images share."""
    rng = np.random.default_rng(seed)
    sizes = np.array(case.sizes)
    reference = rng.integers(-1, sizes, (triplets, len(sizes)))
    reference[1] = reference[0]
    positive = reference.copy()
    for row, n in enumerate(rng.integers(0, len(sizes), triplets)):
        positive[row, n] = (reference[row, n] + 1) % sizes[n]  # -1 becomes 0: a value is added
    positive[2] = positive[3] = reference[1]
    negative = rng.integers(-1, sizes, (triplets, len(sizes)))
    negative[0] = -1
    labels = np.stack([reference, positive, negative]).astype(np.int32)
    indicators = (one_hot(positive, case.sizes) - one_hot(reference, case.sizes)).astype(np.int8)
    images = make_images(3 * triplets, case.pixels, case.seed)
    images = images.reshape(3, triplets, *images.shape[1:])
    return Batch(images, labels, indicators)


class Retrieval(NamedTuple):
    """A gallery and queries of it.

    Attributes:
      gallery: float32 [G, N * d], concatenated features.
      weight: of the memory, float32 [N * d, J].
      labels: int32 [G, N], -1 = not labelled.
      references: [Q], gallery row that each query starts from.
      indicators: int8 [Q, J], of one changed attribute: a swap, or an addition where it is not labelled.
      targets: int32 [Q, N], labels asked for.
      changed: [Q], the attribute.
    """

    gallery: np.ndarray
    weight: np.ndarray
    labels: np.ndarray
    references: np.ndarray
    indicators: np.ndarray
    targets: np.ndarray
    changed: np.ndarray


def make_retrieval(
    sizes: tuple[int, ...] = SIZES, dim: int = 4, gallery: int = 300, queries: int = 60, seed: int = 3
) -> Retrieval:
    """Features around the prototypes of their labels, and near ties among them.

    A tenth of the gallery stands twice, half of it at another length: normalised these are the same
    direction, but for rounding.
    """
    rng = np.random.default_rng(seed)
    num = len(sizes)
    labels = rng.integers(-1, sizes, (gallery, num))
    weight = rng.standard_normal((num, dim, sum(sizes))) * 0.05
    for n, block in enumerate(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])):
        weight[n][:, block] += rng.standard_normal((dim, len(block)))
    weight = weight.reshape(num * dim, -1).astype(np.float32)
    features = one_hot(labels, sizes) @ weight.T + rng.standard_normal((gallery, num * dim)) * 0.3
    twice = gallery // 10
    lengths = np.where(np.arange(twice) % 2, 1, rng.uniform(0.5, 2, twice))
    features[-twice:] = features[:twice] * lengths[:, None]

    references = rng.integers(0, gallery, queries)
    changed = rng.integers(0, num, queries)
    targets = labels[references].copy()
    for row, n in zip(targets, changed, strict=True):
        row[n] = rng.choice([value for value in range(sizes[n]) if value != row[n]])
    indicators = one_hot(targets, sizes) - one_hot(labels[references], sizes)
    return Retrieval(
        features.astype(np.float32),
        weight,
        labels.astype(np.int32),
        references,
        indicators.astype(np.int8),
        targets.astype(np.int32),
        changed,
    )


def one_hot(labels: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Labels [..., N] -> int64 [..., J], zeros where not labelled."""
    columns = [labels[..., n, None] == np.arange(size) for n, size in enumerate(sizes)]
    return np.concatenate(columns, axis=-1).astype(np.int64)
