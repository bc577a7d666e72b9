"""Declares the model of every system: from images to blocks of features, and from these to logits."""

import dataclasses
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.missing_labels import Missing, class_labels, classes_of
from gradrev_jax.models.inputs import PixelInputs, VectorInputs
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.variables import STATISTICS


class EncoderOutput(NamedTuple):
    """The output of the encoder for a batch.

    Attributes:
      features: the features, in P blocks, [B, P, d]; of ``AttributeEncoder`` one per attribute, P = N.
      logits: the logits, [B, P, J]; ``logits[b, j, v]`` is that of value v, computed from block j. J counts
        the encoder's ``classes``.
    """

    features: Float[Array, "B P d"]
    logits: Float[Array, "B P J"]


class FullOutput(NamedTuple):
    """The output of the encoder for a batch, with that of its backbone.

    Attributes:
      embedding: the output of the backbone, which the features are computed from, [B, H].
      features: the features, [B, P, d].
      logits: the logits, [B, P, J], see ``EncoderOutput``.
    """

    embedding: Float[Array, "B H"]
    features: Float[Array, "B P d"]
    logits: Float[Array, "B P J"]


class Encoder(nn.Module):
    """The base class of the models of all systems.

    Stages, checkpoints, validation and evaluation know nothing of a model but what is declared here: the
    methods, and ``blocks``, which says where each attribute stands in the features. If a model has a
    backbone, this is its submodule ``backbone``, which pretrained weights are loaded into.

    Attributes:
      schema: the attributes.
      feature_dim: the width of a block of features, d.
      missing: whether missing labels are ignored, or the ``value`` of a class of their own.
      frozen_statistics: whether the backbone's batch normalisation keeps the statistics that it has, as is
        usual from pretrained weights; otherwise training uses those of each batch, and averages them.
    """

    schema: AttributeSchema
    feature_dim: int = 340
    # Keyword-only, so that the fields that a subclass adds come before them.
    missing: Missing = dataclasses.field(default="ignore", kw_only=True)
    frozen_statistics: bool = dataclasses.field(default=False, kw_only=True)

    @property
    def classes(self) -> AttributeSchema:
        """The classes that the classifiers tell apart: the schema's values, and perhaps missing labels."""
        return classes_of(self.schema, self.missing)

    def class_labels(
        self, labels: Int[Array | np.ndarray, "*batch N"]
    ) -> Int[Array | np.ndarray, "*batch N"]:
        """Converts labels, -1 = not labelled, to numbers of ``classes``; -1 stays if it is ignored."""
        return class_labels(labels, self.schema, self.missing)

    @property
    def blocks(self) -> FeatureBlocks:
        """The blocks of the features, and the one that each attribute's own classifier reads."""
        return FeatureBlocks.own(self.schema)

    @property
    def inputs(self) -> PixelInputs | VectorInputs:
        """The inputs that the model reads."""
        raise NotImplementedError

    @property
    def cosine_scale(self) -> float | None:
        """The factor from cosines to logits; None: logits are not computed from cosines."""
        return None

    def __call__(
        self,
        images: Float[Array, "B S S 3"] | Float[Array, "B D"],
        train: bool = False,
        *,
        shard: BatchShard | None = None,
    ) -> EncoderOutput:
        """Computes the features and logits of a batch.

        Args:
          images: normalised images, [B, S, S, 3]; for the backbone ``embeddings``, vectors, [B, D].
          train: whether dropout is active; it needs the ``dropout`` rng.
          shard: the part of a batch that the images are, for dropout and batch normalisation; None: the
            whole batch.
        """
        raise NotImplementedError

    def full_output(self, images: Float[Array, "B S S 3"] | Float[Array, "B D"]) -> FullOutput:
        """Computes the backbone's output, the features and the logits of a batch, without dropout.

        Args:
          images: the inputs, as for a call.
        """
        raise NotImplementedError

    def check_features(self, features: Float[Array, "B P d"]) -> None:
        """Raises unless features have the blocks of this model, and their width.

        Args:
          features: the features, [B, P, d].

        Raises:
          ValueError: they have another shape.
        """
        count, width = self.blocks.count, self.feature_dim
        if features.ndim != 3 or features.shape[1:] != (count, width):
            raise ValueError(f"features must be [B, {count}, {width}], got {features.shape}")

    def classify(self, features: Float[Array, "B P d"]) -> Float[Array, "B P J"]:
        """Computes the logits of given features, for example edited ones.

        Args:
          features: the features, [B, P, d].
        """
        raise NotImplementedError


def as_output(x: Array) -> Array:
    """Converts an output to float32, unless it is wider: losses and distances are computed in it."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def apply_in_training(
    encoder: Encoder,
    variables: Any,
    images: Float[Array, "B S S 3"] | Float[Array, "B D"],
    *,
    dropout_key: PRNGKeyArray,
    shard: BatchShard | None = None,
    **options: Any,
) -> tuple[EncoderOutput, Any]:
    """Computes the features and logits of a batch as in training, with dropout.

    Args:
      encoder: the model.
      variables: its parameters and statistics.
      images: its inputs; those of a shard, if there is one.
      dropout_key: the random key of the dropout, for the whole batch.
      shard: the part of the batch that the images are; None: all of it.
      **options: further arguments of the call, such as the ``reversal_scale`` of ``AttributeEncoder``.

    Returns:
      The output for these images; and the variables with the statistics after the step, which are those
      before it if they are frozen.

    Example:
      >>> import jax
      >>> from gradrev_jax import AttributeEncoder
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> encoder = AttributeEncoder(schema, feature_dim=8, backbone="embeddings")
      >>> variables = encoder.init(jax.random.key(0), jax.numpy.zeros((1, 16)))
      >>> inputs, key = jax.numpy.ones((4, 16)), jax.random.key(1)
      >>> output, _ = apply_in_training(encoder, variables, inputs, dropout_key=key)
      >>> output.features.shape
      (4, 1, 8)
    """
    updated = [] if encoder.frozen_statistics else [STATISTICS]
    output, changes = encoder.apply(
        variables,
        images,
        train=True,
        shard=shard,
        rngs={"dropout": dropout_key},
        mutable=updated,
        **options,
    )
    return cast(EncoderOutput, output), {**variables, **changes}
