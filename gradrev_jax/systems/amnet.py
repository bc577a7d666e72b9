"""AMNet (Zhao et al., 2017): one entangled feature, and a memory whose answer a learned layer works into it.

docs/method.md says what the sources leave open, and how it is read here.
"""

import dataclasses
import functools
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.learned_edits import EditFunction
from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.core.losses import classification_loss
from gradrev_jax.core.triplet_losses import triplet_margin_loss
from gradrev_jax.core.vectors import unit_with_safe_gradient
from gradrev_jax.models.backbones import find_backbone
from gradrev_jax.models.inputs import Pixels, Vectors
from gradrev_jax.models.interface import Description, Encoder, EncoderOutput
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.systems.backbone import backbone_fields
from gradrev_jax.systems.field import Field, at_least
from gradrev_jax.systems.objective import (
    ENCODER,
    MEMORY,
    LossParts,
    MemoryTargets,
    Objective,
    encode_batch,
)
from gradrev_jax.systems.system import SecondStage, System


class Memory(NamedTuple):
    """What stage 2 trains beside the encoder.

    Attributes:
      prototypes: [J, D], the memory M, which starts as the mean feature of each value.
      keep: [D, D], W1, which starts as the identity.
      change: [D, D], W2, which starts as zeros.
    """

    prototypes: Float[Array, "J D"]
    keep: Float[Array, "D D"]
    change: Float[Array, "D D"]


def asked_values(indicators: Int[Array, "Q J"], schema: AttributeSchema) -> Float[Array, "Q J"]:
    """Returns q, what the memory is asked for: +1 for every value that is added.

    A value that is removed while another takes its place is not mentioned; one that is removed without
    another is asked for with -1, because a change that is not mentioned could not be made.

    Args:
      indicators: [Q, J], +1 for a value that is added, -1 for one that is removed.
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> asked_values(jnp.array([[-1, 1, -1, 0]]), schema).tolist()
      [[0.0, 1.0, -1.0, 0.0]]
    """
    added = jnp.maximum(indicators, 0).astype(jnp.float32)
    has_another = (added @ schema.membership) @ schema.membership.T > 0
    return jnp.where(has_another, added, indicators.astype(jnp.float32))


def edit_features(
    features: Float[Array, "Q 1 D"],
    indicators: Int[Array, "Q J"],
    memory: Memory,
    schema: AttributeSchema,
) -> Float[Array, "Q 1 D"]:
    r"""Edits entangled features by what the memory answers.

    .. math::
        r = M^\top q, \quad f' = W_1 f + W_2 r

    Args:
      features: [Q, 1, D], f.
      indicators: [Q, J], what is to change, see ``asked_values``.
      memory: the memory and the two layers, as matrices [inputs, outputs].
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = Memory(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.eye(2), 3 * jnp.eye(2))
      >>> edit_features(jnp.array([[[1.0, 0.5]]]), jnp.array([[-1, 1]]), memory, schema).tolist()
      [[[1.0, 3.5]]]
    """
    multiply = jax.lax.Precision.HIGHEST
    answer = jnp.matmul(asked_values(indicators, schema), memory.prototypes, precision=multiply)
    kept = jnp.matmul(features[:, 0], memory.keep, precision=multiply)
    return (kept + jnp.matmul(answer, memory.change, precision=multiply))[:, None]


class EntangledEncoder(Encoder):
    """A backbone, an MLP that gives one feature for all attributes, and N classifiers that read it.

    Attributes:
      schema: the attributes.
      feature_dim: the width of the feature, D.
      missing: as for ``Encoder``.
      frozen_statistics: as for ``Encoder``.
      backbone: the name of the backbone, one of ``BACKBONES``.
      tap: the layer of the backbone whose output the MLP reads; None: its usual one.
      width: the factor of the backbone's numbers of filters and units.
      dropout: the dropout rate of the backbone.
      dtype: the dtype of the computation; outputs are float32, unless it is wider.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> encoder = EntangledEncoder(schema, feature_dim=8, backbone="embeddings")
      >>> params = encoder.init(jax.random.key(0), jnp.zeros((1, 16)))
      >>> features, logits = encoder.apply(params, jnp.zeros((4, 16)))
      >>> features.shape, logits.shape
      ((4, 1, 8), (4, 1, 5))
    """

    backbone: str = "alexnet"
    tap: str | None = None
    width: float = 1.0
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @property
    def blocks(self) -> FeatureBlocks:
        """One block, which all classifiers read."""
        return FeatureBlocks.shared(self.schema)

    @property
    def inputs(self) -> Pixels | Vectors:
        """The inputs that the backbone reads."""
        return find_backbone(self.backbone).inputs

    def setup(self) -> None:
        """Creates the parts."""
        backbone = find_backbone(self.backbone)
        tap = backbone.taps[0] if self.tap is None else self.tap
        network = backbone.build(tap, self.width, self.dropout, self.dtype)
        # The field ``backbone`` has the name of this part in the parameters.
        self.network = network.clone(parent=self, name="backbone")
        self.mlp_hidden = nn.Dense(
            self.feature_dim, dtype=self.dtype, kernel_init=nn.initializers.he_normal()
        )
        self.mlp_out = nn.Dense(self.feature_dim, dtype=self.dtype)
        self.heads = nn.Dense(self.classes.num_values, dtype=self.dtype)

    def __call__(
        self,
        images: Float[Array, "B S S 3"] | Float[Array, "B D"],
        train: bool = False,
        *,
        shard: BatchShard | None = None,
    ) -> EncoderOutput:
        """Computes the feature and logits of a batch; see ``Encoder``."""
        self.inputs.check(images)
        _, features, logits = self._describe(self.network(images, train, shard))
        return EncoderOutput(features, logits)

    def describe(self, images: Float[Array, "B S S 3"] | Float[Array, "B D"]) -> Description:
        """Computes the backbone's output of a batch, too; for inference."""
        self.inputs.check(images)
        return self._describe(self.network(images, False, None))

    def classify(self, features: Float[Array, "B 1 d"]) -> Float[Array, "B 1 J"]:
        """Computes the logits of given features, for example edited ones."""
        return self._out(self.heads(features.astype(self.dtype)))

    def _describe(self, embedding: Float[Array, "B H"]) -> Description:
        features = self.mlp_out(nn.relu(self.mlp_hidden(embedding)))[:, None]
        return Description(*map(self._out, (embedding, features, self.heads(features))))

    def _out(self, x: Array) -> Array:
        return x.astype(jnp.promote_types(self.dtype, jnp.float32))


class EncoderMetrics(NamedTuple):
    """Represents the metrics of a step of stage 1, before its update."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    feature_norm: Float[Array, ""]


class MemoryMetrics(NamedTuple):
    """Represents the metrics of a step of stage 2, before its update; the terms are without their weights."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_margin: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class EncoderObjective(Objective):
    """The loss of stage 1: the cross-entropies of all attributes, all read from the one feature.

    Attributes:
      weight: the factor of the loss.
    """

    weight: float = 1.0

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        images: Float[Array, "_ S S 3"] | Float[Array, "_ D"],
        targets: Int[Array, "B N"],
        *,
        dropout_key: PRNGKeyArray,
        progress: float | Float[Array, ""] = 1.0,
        shard: BatchShard | None = None,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the loss of a batch; see ``Objective``."""
        output, variables = encode_batch(encoder, params, images, dropout_key=dropout_key, shard=shard)
        loss = cross_entropies(encoder, output.logits, targets)
        norm = jnp.linalg.norm(output.features[:, 0], axis=1).mean()
        metrics = EncoderMetrics(self.weight * loss, loss, norm)
        return metrics.loss, LossParts(metrics, variables, output.features)


@dataclasses.dataclass(frozen=True)
class MemoryObjective(Objective):
    """The loss of stage 2, on references, positives and negatives, and on the references as edited.

    Attributes:
      classification: the weight of the sum of their four cross-entropies; an edited feature has the labels of
        its positive.
      margin_weight: the weight of the triplet loss whose anchors are the edited features.
      margin: its margin, between plain distances of vectors of length 1.
      freeze_encoder: whether the memory and its layers alone are trained.
    """

    classification: float = 0.2
    margin_weight: float = 1.0
    margin: float = 0.5
    freeze_encoder: bool = False

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        images: Float[Array, "_ S S 3"] | Float[Array, "_ D"],
        targets: MemoryTargets,
        *,
        dropout_key: PRNGKeyArray,
        progress: float | Float[Array, ""] = 1.0,
        shard: BatchShard | None = None,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the loss of a batch of triplets; see ``Objective``."""
        output, variables = encode_batch(
            encoder,
            params[ENCODER],
            images,
            dropout_key=dropout_key,
            is_frozen=self.freeze_encoder,
            shard=shard,
        )
        memory, labels = params[MEMORY], jnp.asarray(targets.labels)
        reference, positive, negative = output.features.reshape(*labels.shape[:2], 1, -1)
        edited = edit_features(reference, jnp.asarray(targets.indicators), memory, encoder.schema)
        edited_logits: Any = encoder.apply(variables, edited, method="classify")
        logits = output.logits.reshape(*labels.shape[:2], 1, -1)
        read = [*zip(logits, labels, strict=True), (edited_logits, labels[1])]
        loss_cls = jnp.stack([cross_entropies(encoder, *pair) for pair in read]).sum()
        anchor, near, far = (unit_with_safe_gradient(x[:, 0]) for x in (edited, positive, negative))
        loss_margin = triplet_margin_loss(anchor, near, far, margin=self.margin)
        total = self.classification * loss_cls + self.margin_weight * loss_margin
        metrics = MemoryMetrics(total, loss_cls, loss_margin)
        return total, LossParts(metrics, {ENCODER: variables, MEMORY: memory})


def cross_entropies(
    encoder: Encoder, logits: Float[Array, "B 1 J"], labels: Int[Array, "B N"]
) -> Float[Array, ""]:
    """Computes the sum over attributes of the mean cross-entropy of the images that are labelled for each.

    Args:
      encoder: the model, which says what a missing label is.
      logits: [B, 1, J].
      labels: [B, N], -1 = not labelled.
    """
    by_attribute = jnp.asarray(encoder.blocks.by_attribute(logits))
    return classification_loss(by_attribute, jnp.asarray(encoder.class_labels(labels)), encoder.classes)


def build(config: ConfigDict, schema: AttributeSchema) -> EntangledEncoder:
    """Builds the model; if its backbone is frozen, the model that reads what the backbone gives."""
    return EntangledEncoder(schema, feature_dim=config.amnet.feature_dim, **backbone_fields(config))


def begin(config: ConfigDict, encoder: Encoder, prototypes: Float[Array, "J 1 D"]) -> Memory:
    """Returns the memory of value means, with layers that leave every feature as it is."""
    eye = jnp.eye(encoder.feature_dim)
    return Memory(prototypes[:, 0], eye, jnp.zeros_like(eye))


def make_edit(config: ConfigDict, encoder: Encoder) -> EditFunction:
    """Returns the edit, as a function of what stage 2 has trained."""

    def edit(
        params: Any, features: Float[Array, "Q 1 D"], indicators: Int[Array, "Q J"]
    ) -> Float[Array, "Q 1 D"]:
        return edit_features(features, indicators, params[MEMORY], encoder.schema)

    return edit


def problems(config: ConfigDict) -> Iterable[str]:
    """Yields what a config asks for that this system has not."""
    unused: dict[str, Any] = {
        "model.heads": "shared",
        "model.unit_features": False,
        "reversal.weighting": "off",
        "train.decorrelate": 0,
        **{f"train.{name}_weight": 0 for name in TERMS},
    }
    if MEMORY in config.stages:
        unused |= {f"memory.weights.{name}": 0 for name in ("semi_hard", "consistency", "off_block")}
        unused |= {"memory.block": "soft", "memory.reversal": False}
    for name, value in unused.items():
        given = functools.reduce(operator.getitem, name.split("."), config)
        if given != value:
            yield f"{name} = {given!r}: {value!r}, because the system 'amnet' has one feature for all"


SYSTEM = System(
    meaning="AMNet (Zhao et al., 2017), one feature for all attributes and a learned edit",
    build=build,
    encoder_objective=lambda config, encoder, labels: EncoderObjective(config.train.classification_weight),
    second_stage=SecondStage(
        begin=begin,
        objective=lambda config, encoder: MemoryObjective(
            classification=config.memory.weights.classification,
            margin_weight=config.memory.weights.margin,
            margin=config.memory.margin,
            freeze_encoder=config.memory.freeze_encoder,
        ),
        make_edit=make_edit,
    ),
    fields={
        "feature_dim": Field(
            default=1024,
            meaning="Width D of the feature, and of the memory.",
            rule=at_least(1),
            earlier=1024,
        )
    },
    problems=problems,
)
