"""Declares the objective of a stage of training: a loss of a batch, with its settings."""

import abc
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.interface import Encoder, EncoderOutput, apply_in_training
from gradrev_jax.models.shards import BatchShard, whole_batch

# The stages of training, and the two parts of what the second one trains.
STAGES = ENCODER, MEMORY = "encoder", "memory"


def encode_batch(
    encoder: Encoder,
    variables: Any,
    images: Float[Array, "_ S S 3"] | Float[Array, "_ D"],
    *,
    dropout_key: PRNGKeyArray,
    is_frozen: bool = False,
    shard: BatchShard | None = None,
    **options: Any,
) -> tuple[EncoderOutput, Any]:
    """Encodes a batch in training; on several devices, each encodes its images and has the output of all.

    Args:
      encoder: the model.
      variables: its parameters and statistics.
      images: the inputs of the model; those of a shard, if there is one.
      dropout_key: the random key of the dropout, for the whole batch.
      is_frozen: whether the encoder is not trained: it has no gradient, and no dropout.
      shard: the part of the batch that the images are; None: all of it.
      **options: what else the model is called with.

    Returns:
      The output of the whole batch; and the variables with the statistics after the step.
    """
    if is_frozen:
        variables = jax.lax.stop_gradient(variables)
        local: Any = encoder.apply(variables, images, shard=shard, **options)
        return whole_batch(local, shard), variables
    local, variables = apply_in_training(
        encoder, variables, images, dropout_key=dropout_key, shard=shard, **options
    )
    return whole_batch(local, shard), variables


class LossParts(NamedTuple):
    """Represents what a loss returns besides its value.

    Attributes:
      metrics: the metrics that a step reports.
      variables: the parameters with the statistics after the step, see ``models.variables``; of this tree,
        only the statistics are taken.
      features: the features of the whole batch, where others are trained on them.
    """

    metrics: Any
    variables: Any
    features: Any = None


class Objective(abc.ABC):
    """Represents the loss that a stage minimises, with its settings."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the parts of the parameters that have no gradient, and no step may change."""
        return ()

    @abc.abstractmethod
    def loss(
        self,
        encoder: Encoder,
        params: Any,
        images: Float[Array, "_ S S 3"] | Float[Array, "_ D"],
        targets: Any,
        *,
        dropout_key: PRNGKeyArray,
        progress: Float[Array, ""],
        shard: BatchShard | None,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the total loss of a batch, the metrics that a step reports, and the new statistics.

        Args:
          encoder: the model.
          params: its parameters and statistics, with those of a memory where the stage has one.
          images: the inputs of the model; those of a shard, if there is one.
          targets: what the images are compared with, of the whole batch: labels, or ``MemoryTargets``.
          dropout_key: the random key of the dropout.
          progress: the fraction of the training that is done, for schedules.
          shard: the part of the batch that the images are; None: all of it.
        """

    def describe(self, metrics: Any, schema: AttributeSchema) -> dict[str, Any]:
        """Returns what is logged of a step besides its ``loss``: by default, all other metrics.

        Args:
          metrics: the metrics of the loss, a named tuple of numbers whose ``loss`` is the total.
          schema: the attributes.
        """
        return {name: float(value) for name, value in metrics._asdict().items() if name != "loss"}


class MemoryTargets(NamedTuple):
    """Represents the labels and changes that a batch of triplets is compared with.

    Attributes:
      labels: [3, B, N], of the references, the positives and the negatives; -1 = not labelled.
      indicators: [B, J], from each reference's labels to its positive's.
    """

    labels: Int[Array | np.ndarray, "*steps 3 B N"]
    indicators: Int[Array | np.ndarray, "*steps B J"]
