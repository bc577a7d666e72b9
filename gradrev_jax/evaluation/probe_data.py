"""Prepares the inputs of probes: principal components, folds, and what labels alone say."""

from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema

MOST_DIMENSIONS = 128  # that a probe reads of a feature
LABEL_DIRECTIONS = 32  # of these, the ones that are chosen by labels of images that are never scored
# Less variation than this is rounding: of a number, relative to its size; of a component, to the largest.
LEAST_DEVIATION, LEAST_VARIANCE = 1e-5, 1e-8
# Pseudo-counts, of which each attribute takes the one that predicts best, see ``log_frequencies``.
SMOOTHINGS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e4)


class Folds(NamedTuple):
    """Represents which images probes are fitted to, and which they are scored on.

    The m images are the test images, in T folds, and then the images that are always fitted to. Strengths are
    chosen by probes that leave out a pair of folds, of which each serves as the other's inner fold.

    Attributes:
      fold: the fold of each image, [m]; 0 for the images that are always fitted to.
      without_pair: whether each image is for the fits without a pair of folds, 0/1 [m, P].
      without_fold: whether each image is for the fits without one fold, 0/1 [m, T].
      inner: whether each image is in the inner fold of each fold, 0/1 [m, T].
      pair_of: the pair that each fold is in, [T].
    """

    fold: Int[np.ndarray | Array, " m"]
    without_pair: Float[np.ndarray | Array, "m P"]
    without_fold: Float[np.ndarray | Array, "m T"]
    inner: Float[np.ndarray | Array, "m T"]
    pair_of: Int[np.ndarray | Array, " T"]

    @classmethod
    def random(cls, num_scored: int, num_extra: int, num_folds: int, seed: int) -> "Folds":
        """Draws the folds of the images.

        Args:
          num_scored: the number of test images.
          num_extra: the number of images that are always fitted to.
          num_folds: the number of folds.
          seed: the seed of the folds.
        """
        fold = np.random.default_rng(seed).permutation(np.arange(num_scored) % num_folds)
        fold = np.concatenate([fold, np.full(num_extra, -1)])
        inside = fold[:, None] == np.arange(num_folds)
        numbers = np.arange(num_folds)
        pair_of = numbers // 2
        partner = np.where(numbers % 2 == 0, (numbers + 1) % num_folds, numbers - 1)
        first = 2 * np.arange((num_folds + 1) // 2)
        without_pair = ~(inside[:, first] | inside[:, partner[first]])
        return cls(
            fold=np.maximum(fold, 0).astype(np.int32),
            without_pair=without_pair.astype(np.float32),
            without_fold=(~inside).astype(np.float32),
            inner=inside[:, partner].astype(np.float32),
            pair_of=pair_of,
        )


class ProbeInputs(NamedTuple):
    """Represents what the probes of one feature read; of all features with a further first axis.

    Attributes:
      x: the inputs, [m, r]; the last is 1, for the intercept.
      penalty: the factor of each input's squared weights, [r]; 0 for the intercept.
      moment: the second moment of each input, [r].
      own: the row of the base that each image has, [m].
      base: the log-probabilities that are known without the feature, [V, P + T, J]; of the fits without a
        pair, then those without a fold.
      labels: the labels to predict, [m, N], -1 = not labelled.
    """

    x: Float[np.ndarray | Array, "*N m r"]
    penalty: Float[np.ndarray | Array, "*N r"]
    moment: Float[np.ndarray | Array, "*N r"]
    own: Int[np.ndarray | Array, "*N m"]
    base: Float[np.ndarray | Array, "*N V F J"]
    labels: Int[np.ndarray | Array, "*N m A"]

    def padded(self, width: int, bases: int) -> "ProbeInputs":
        """Pads the inputs with zeros, from which a linear probe learns nothing.

        Args:
          width: the number of inputs, at least as many as there are.
          bases: the number of rows of the base, at least as many as there are.
        """

        def pad(leaf: Float[np.ndarray | Array, "..."], size: int, axis: int) -> Float[np.ndarray, "..."]:
            widths = [(0, 0)] * leaf.ndim
            widths[axis] = 0, size - leaf.shape[axis]
            return np.pad(np.asarray(leaf), widths)

        x, penalty, moment = (pad(leaf, width, -1) for leaf in (self.x, self.penalty, self.moment))
        return self._replace(x=x, penalty=penalty, moment=moment, base=pad(self.base, bases, -3))


class ProbeOutcome(NamedTuple):
    """Represents how a probe did; of all features with a further first axis.

    Attributes:
      loss: the cross-entropy of each image and attribute, [m, N].
      base_loss: that of the base alone, [m, N].
      predicted: the predicted values, [m, N].
      inner_loss: the least mean loss on each fold's inner fold, [T, N].
      strength: the strength of L2 that was chosen, [T, N]; infinite: the base alone.
    """

    loss: Float[np.ndarray | Array, "*N m A"]
    base_loss: Float[np.ndarray | Array, "*N m A"]
    predicted: Int[np.ndarray | Array, "*N m A"]
    inner_loss: Float[np.ndarray | Array, "*N T A"]
    strength: Float[np.ndarray | Array, "*N T A"]


def plain_inputs(
    features: Float[np.ndarray, "m N d"],
    labels: Int[np.ndarray, "m N"],
    schema: AttributeSchema,
    folds: Folds,
    num_scored: int,
) -> ProbeInputs:
    """Prepares probes that know how frequent values are, and read a feature.

    Args:
      features: the features of all images, test images first.
      labels: their labels, -1 = not labelled.
      schema: the attributes.
      folds: the folds.
      num_scored: the number of test images.
    """
    nothing = np.full_like(labels, NOT_LABELLED)
    return conditional_inputs(
        features,
        nothing,
        np.broadcast_to(labels, (schema.num_attributes, *labels.shape)),
        schema,
        folds,
        num_scored,
    )


def conditional_inputs(
    features: Float[np.ndarray, "m N d"],
    own_labels: Int[np.ndarray, "m N"],
    labels: Int[np.ndarray, "N m N"],
    schema: AttributeSchema,
    folds: Folds,
    num_scored: int,
) -> ProbeInputs:
    """Prepares probes that know the own label of a feature, and read what the feature has beyond it.

    Args:
      features: the features of all images, test images first.
      own_labels: the labels that are known; not labelled is a value of its own.
      labels: the labels to predict from each feature.
      schema: the attributes.
      folds: the folds.
      num_scored: the number of test images.
    """
    known_values = int(own_labels.max(initial=NOT_LABELLED)) + 1  # 0 if nothing is known of any image
    own = np.where(own_labels == NOT_LABELLED, known_values, own_labels).astype(np.int32)
    parts = []
    for j in range(schema.num_attributes):
        own_one_hot = np.eye(known_values + 1, dtype=np.float32)[own[:, j]]
        one_hot = one_hot_labels(labels[j], schema)
        labelled = (labels[j] != NOT_LABELLED) @ schema.membership.T
        base = _bases(own_one_hot, one_hot, labelled, folds, schema)
        residuals = one_hot[num_scored:] - labelled[num_scored:] * _means(
            own_one_hot[num_scored:], one_hot[num_scored:], labelled[num_scored:]
        )
        center = _means(own_one_hot, features[:, j], np.ones((1, 1), np.float32))
        label_residuals = np.concatenate([np.zeros((num_scored, schema.num_values)), residuals])
        inputs = reduce_feature(features[:, j], center, label_residuals)
        parts.append((np.concatenate([inputs, own_one_hot], axis=1) if known_values else inputs, base))
    width = max(inputs.shape[1] for inputs, _ in parts)
    x = np.zeros((len(parts), len(features), width + 1), np.float32)
    for padded, (inputs, _) in zip(x, parts, strict=True):
        padded[:, : inputs.shape[1]] = inputs
    x[..., -1] = 1
    penalty = np.ones(x.shape[::2], np.float32)
    penalty[:, -1] = 0
    moment = np.square(x).mean(axis=1)
    base = np.stack([base for _, base in parts]).astype(np.float32)
    return ProbeInputs(x, penalty, moment, own.T, base, np.asarray(labels, np.int32))


def reduce_feature(
    features: Float[np.ndarray, "m d"],
    center: Float[np.ndarray, "m d"],
    label_residuals: Float[np.ndarray, "m J"],
) -> Float[np.ndarray, "m r"]:
    """Returns principal components of a feature, scaled so that a probe reads weak ones as well.

    Each is divided by the root of its deviation: half of what whitens it. Whitened, the many weak components
    of an encoder's feature, which are mostly noise, would count as much as the strong ones, and as they are,
    a leak in a weak one would hardly count at all. Of more than 128, the 96 with the largest variance stay,
    and of all others the 32 combinations that explain most of ``label_residuals``: what a feature says in
    directions in which it hardly varies is still found. Without anything to direct them by, all stay.

    Args:
      features: the features.
      center: what is subtracted from each.
      label_residuals: the residuals of the labels of images that are never scored; 0 for all others.
    """
    residuals = features.astype(np.float64) - center
    deviation = residuals.std(axis=0)
    varies = deviation > LEAST_DEVIATION * np.abs(features).max(axis=0, initial=0)
    if not varies.any():
        return np.zeros((len(features), 0), np.float32)
    scaled = residuals[:, varies] / deviation[varies]
    variances, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    keep = np.flatnonzero(variances > LEAST_VARIANCE * variances[-1])[::-1]
    components = scaled @ (axes[:, keep] / np.sqrt(variances[keep]))
    size = (variances[keep] / variances[keep].mean()) ** 0.25
    if len(keep) <= MOST_DIMENSIONS or not label_residuals.any():
        return (components * size).astype(np.float32)
    largest = MOST_DIMENSIONS - LABEL_DIRECTIONS
    covariance = components[:, largest:].T @ (
        label_residuals / np.sqrt(np.maximum((label_residuals**2).sum(axis=0), 1))
    )
    directions = np.linalg.eigh(covariance @ covariance.T)[1][:, -LABEL_DIRECTIONS:]
    directed = components[:, largest:] @ directions * size[largest]
    return np.concatenate([components[:, :largest] * size[:largest], directed], axis=1).astype(np.float32)


def log_frequencies(
    counts: Float[np.ndarray, "V J"], totals: Float[np.ndarray, "V J"], schema: AttributeSchema
) -> Float[np.ndarray, "V J"]:
    """Returns the log-probabilities of all values given a label, smoothed towards their frequencies.

    The smoothing of each attribute is that at which the images predict each other best, each left out in
    turn.

    Args:
      counts: the number of images by the label that is given (row) and by the value to predict (column).
      totals: the number of images by the label that is given that are labelled for each value's attribute.
      schema: the attributes.
    """
    sizes = np.asarray(schema.sizes)[schema.attribute_of]
    prior = (counts.sum(axis=0) + 0.5) / (totals.sum(axis=0) + 0.5 * sizes)
    tables, scores = [], []
    for smoothing in SMOOTHINGS:
        tables.append(np.log((counts + smoothing * prior) / (totals + smoothing)))
        # The probability that an image's value has by all images but this one.
        left_out = (np.maximum(counts - 1, 0) + smoothing * prior) / (np.maximum(totals - 1, 0) + smoothing)
        scores.append((counts * np.log(left_out)).sum(axis=0) @ schema.membership)
    best = np.argmax(scores, axis=0)[schema.attribute_of]
    return np.take_along_axis(np.stack(tables), best[None, None], axis=0)[0]


def one_hot_labels(labels: Int[np.ndarray, "m N"], schema: AttributeSchema) -> Float[np.ndarray, "m J"]:
    """Returns ``schema.one_hot`` by NumPy, for which nothing is compiled."""
    return (labels[:, schema.attribute_of] == schema.position_of).astype(np.float32)


def _bases(
    own_one_hot: Float[np.ndarray, "m V"],
    one_hot: Float[np.ndarray, "m J"],
    labelled: Float[np.ndarray, "m J"],
    folds: Folds,
    schema: AttributeSchema,
) -> Float[np.ndarray, "V F J"]:
    """Returns the log-probabilities of values given the own label, by each set of fitting images."""
    fits = np.concatenate([folds.without_pair, folds.without_fold], axis=1)
    kinds, part = np.unique(fits, axis=0, return_inverse=True)  # each image is counted once, in its part
    parts = [np.flatnonzero(part.reshape(-1) == p) for p in range(len(kinds))]
    counts, totals = (
        np.stack([own_one_hot[rows].T @ columns[rows] for rows in parts]).astype(np.float64)
        for columns in (one_hot, labelled)
    )
    counts, totals = (np.einsum("pf,pvj->fvj", kinds, numbers) for numbers in (counts, totals))
    tables = [log_frequencies(count, total, schema) for count, total in zip(counts, totals, strict=True)]
    return np.stack(tables, axis=1)


def _means(
    own_one_hot: Float[np.ndarray, "m V"],
    numbers: Float[np.ndarray, "m k"],
    counted: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "m k"]:
    """Returns for each image the mean over the images with the same label."""
    totals = np.maximum(own_one_hot.T @ np.broadcast_to(counted, numbers.shape), 1)
    return own_one_hot @ (own_one_hot.T @ numbers / totals)
