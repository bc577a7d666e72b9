"""Leakage: what fresh probes read of every attribute in every feature, on images that no encoder saw."""

import functools
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import whole_number
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, check_labels
from gradrev_jax.core.workers import NUM_WORKERS
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.leakage_scores import Leakage, ProbeScores
from gradrev_jax.evaluation.linear_probe import score_linear
from gradrev_jax.evaluation.mlp_probe import score_mlp
from gradrev_jax.evaluation.neighbor_probe import predict_by_neighbors
from gradrev_jax.evaluation.probe_data import (
    Folds,
    ProbeInputs,
    ProbeOutcome,
    conditional_inputs,
    plain_inputs,
)
from gradrev_jax.progress import ProgressBar

KINDS = ("mlp", "knn", "control")
WIDTH_STEP = 16  # inputs of linear probes are padded to a multiple of this, so that few programs are compiled
Extra = tuple[Float[Array | np.ndarray, "V N d"], Int[Array | np.ndarray, "V N"]]


def measure_leakage(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
    *,
    extra: Extra | None = None,
    kinds: Collection[str] = KINDS,
    folds: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> Leakage:
    r"""Measures how well fresh probes read every attribute n in every feature j.

    Probes are cross-fitted: fitted to all folds of the images but one, and to all of ``extra``, and scored
    on the one. The conditional leakage is the V-information (Xu et al., 2020; Hewitt et al., 2021) that f_j
    has on y_n beyond y_j, as a fraction of what y_j leaves open,

    .. math::
        \frac{CE(y_n | y_j) - CE(y_n | f_j, y_j)}{CE(y_n | y_j)}

    so that attributes that predict each other are not taken for a leak. All cross-entropies are of images
    that the probe was not fitted to. Nothing is clipped: below 0, a probe does worse than none.

    Args:
      features: the features of images that the encoder never saw.
      labels: their labels, -1 = not labelled. Labels that are missing are neither fitted nor scored; a
        missing own label is a value of its own.
      schema: the attributes.
      extra: features and labels of further images that the encoder never saw.
      kinds: what is measured besides the linear probes, of ``mlp``, ``knn`` and ``control``.
      folds: the number of folds, at least 3.
      seed: the seed of the folds, of the control and of the MLPs.
      progress: whether to show a progress bar.

    Returns:
      The measurements. NaN is "not measured": fewer than 20 of the images are labelled, the majority is
      always right, or, for the conditional leakage, the own label leaves less than 0.01 nats open.

    Raises:
      DataError: there are fewer images than folds.
      ValueError: shapes that disagree, labels outside their attribute, features that are not finite, an
        unknown kind, or fewer than 3 folds.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> labels = np.random.default_rng(0).integers(0, 2, (300, 2))
      >>> both = np.stack([labels, labels], axis=1).astype(np.float32)  # every feature holds both labels
      >>> measure_leakage(both, labels, schema, kinds=()).linear.leakage.tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    _check_kinds(kinds)
    folds = whole_number(folds, "folds")
    features, labels = _as_float32(features), np.asarray(labels)
    if extra is not None:
        extra = _as_float32(extra[0]), np.asarray(extra[1])
    _check(features, labels, schema, folds, extra)
    images = _Images.of(features, labels, extra, folds, seed)
    with ProgressBar(total=2 + len(set(kinds)), desc="leakage", progress=progress, leave=False) as bar:
        return _measure(images, schema, frozenset(kinds), seed, bar)


class _Images(NamedTuple):
    """Represents all images, the test images first, and the folds that these are in."""

    features: Float[np.ndarray, "m N d"]
    labels: Int[np.ndarray, "m N"]
    num_scored: int
    folds: Folds

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "M N d"],
        labels: Int[np.ndarray, "M N"],
        extra: Extra | None,
        num_folds: int,
        seed: int,
    ) -> "_Images":
        """Joins the test images and the extra ones, and draws the folds."""
        num_scored = len(features)
        if extra is not None:
            features, labels = np.concatenate([features, extra[0]]), np.concatenate([labels, extra[1]])
        drawn = Folds.random(num_scored, len(features) - num_scored, num_folds, seed)
        return cls(features, labels.astype(np.int32, copy=False), num_scored, drawn)


def _measure(
    images: _Images, schema: AttributeSchema, kinds: frozenset[str], seed: int, bar: ProgressBar
) -> Leakage:
    """Fits the linear probes and those of the other kinds, and scores them."""
    features, labels, num_scored, folds = images
    scores = ProbeScores(labels, folds, num_scored, schema)
    plain = plain_inputs(features, labels, schema, folds, num_scored)
    linear = _score_linear(plain, folds, schema)
    bar.update()
    to_predict = np.broadcast_to(labels, (schema.num_attributes, *labels.shape))
    conditional = conditional_inputs(features, labels, to_predict, schema, folds, num_scored)
    linear_conditional = _score_linear(conditional, folds, schema)
    bar.update()
    mlp = knn = control = None
    if "mlp" in kinds:
        mlp = scores.score_probes(
            _score_mlp(plain, linear, folds, seed, schema),
            _score_mlp(conditional, linear_conditional, folds, seed, schema),
        )
        bar.update()
    if "knn" in kinds:
        fold = np.asarray(folds.fold)[:num_scored]
        blocks = np.moveaxis(features, 1, 0)
        predicted = np.stack([predict_by_neighbors(block, labels, fold, schema) for block in blocks])
        knn = scores.score_predictions(predicted, None)
        bar.update()
    if "control" in kinds:
        permuted = permute_within(labels, seed)
        inputs = conditional_inputs(features, labels, permuted, schema, folds, num_scored)
        control = scores.conditional_leakage(_score_linear(inputs, folds, schema))
        bar.update()
    return Leakage(scores.majority, scores.score_probes(linear, linear_conditional), mlp, knn, control)


def permute_within(labels: Int[np.ndarray, "m N"], seed: int) -> Int[np.ndarray, "N m N"]:
    """Returns labels of which each attribute is permuted among the labelled images with the same own label.

    Args:
      labels: the labels, -1 = not labelled.
      seed: the seed of the permutations.

    Returns:
      The labels for each feature j (first axis), permuted within the images that have the same label of j.
    """
    rng = np.random.default_rng((seed, 1))
    permuted = np.repeat(labels[None], labels.shape[1], axis=0)
    for j, n in np.ndindex(labels.shape[1], labels.shape[1]):
        for value in np.unique(labels[:, j]):
            rows = np.flatnonzero((labels[:, j] == value) & (labels[:, n] != NOT_LABELLED))
            permuted[j, rows, n] = labels[rng.permutation(rows), n]
    return permuted


def _check_kinds(kinds: Collection[str]) -> None:
    if isinstance(kinds, str):
        raise ValueError(f"kinds must be a collection of names, got the string {kinds!r}")
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"kinds must be of {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")


def _as_float32(features: Float[Array | np.ndarray, "M N d"]) -> Float[np.ndarray, "M N d"]:
    with np.errstate(over="ignore"):  # to infinity, which is refused
        return np.asarray(features, np.float32)


def _check(
    features: Float[np.ndarray, "M N d"],
    labels: Int[np.ndarray, "M N"],
    schema: AttributeSchema,
    folds: int,
    extra: Extra | None,
) -> None:
    if folds < 3:
        raise ValueError(f"folds must be at least 3, got {folds}")
    given = {"features": (features, labels), "extra": extra or (features, labels)}
    for name, (rows, row_labels) in given.items():
        check_labels(row_labels, schema, "labels" if name == "features" else "extra")
        if rows.ndim != 3 or rows.shape[:2] != row_labels.shape or rows.shape[2] != features.shape[2]:
            raise ValueError(f"{name} {rows.shape} do not fit their labels {row_labels.shape}, or each other")
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} must be finite in float32")
    if len(features) < folds:
        raise DataError(
            f"leakage needs {folds} images or more that no encoder saw, one per fold; "
            f"there are {len(features)}"
        )


_run_linear = functools.partial(jax.jit, static_argnames="schema")(score_linear)
_run_mlp = functools.partial(jax.jit, static_argnames="schema")(score_mlp)


def _score_linear(inputs: ProbeInputs, folds: Folds, schema: AttributeSchema) -> ProbeOutcome:
    """Scores the linear probes of all features; features with equal inputs are scored once."""
    wide = inputs.padded(-(-inputs.x.shape[-1] // WIDTH_STEP) * WIDTH_STEP, max(schema.sizes) + 1)
    are_equal = all(
        np.array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape)) for leaf in jax.tree.leaves(wide)
    )
    scored = _by_feature(
        lambda feature: _run_linear(feature, folds, schema),
        jax.tree.map(lambda leaf: leaf[:1], wide) if are_equal else wide,
    )
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (schema.num_attributes, *leaf.shape[1:])), scored)


def _score_mlp(
    inputs: ProbeInputs, linear: ProbeOutcome, folds: Folds, seed: int, schema: AttributeSchema
) -> ProbeOutcome:
    seeds = np.arange(schema.num_attributes) + seed * schema.num_attributes
    return _by_feature(
        lambda feature: _run_mlp(*feature[:2], folds, feature[2], schema), (inputs, linear, seeds)
    )


def _by_feature(score: Callable[[Any], ProbeOutcome], inputs: Any) -> ProbeOutcome:
    """Scores the probes of several features in parallel: those of one feature keep about one core busy."""
    features = [
        jax.tree.map(lambda leaf, j=j: leaf[j], inputs) for j in range(len(jax.tree.leaves(inputs)[0]))
    ]
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        scored = list(pool.map(lambda feature: jax.tree.map(np.asarray, score(feature)), features))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *scored)
