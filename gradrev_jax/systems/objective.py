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

# What a model is called with in training: normalised images, or vectors.
ModelInputs = Float[Array, "_ S S 3"] | Float[Array, "_ D"]


class StepContext(NamedTuple):
    """Represents what a loss depends on besides the parameters and the batch.

    Attributes:
      dropout_key: the random key of the dropout, for the whole batch.
      progress: the fraction of the training that is done, for schedules.
      shard: the part of the batch that the inputs are; None: all of it.
    """

    dropout_key: PRNGKeyArray
    progress: float | Float[Array, ""] = 1.0
    shard: BatchShard | None = None


def encode_batch(
    encoder: Encoder,
    variables: Any,
    inputs: ModelInputs,
    context: StepContext,
    *,
    is_frozen: bool = False,
    **options: Any,
) -> tuple[EncoderOutput, Any]:
    """Encodes a batch in training; on several devices, each encodes its share and has the output of all.

    Args:
      encoder: the model.
      variables: its parameters and statistics.
      inputs: the inputs of the model; those of a shard, if there is one.
      context: the key of the dropout, and the shard.
      is_frozen: whether the encoder is not trained: it has no gradient, and no dropout.
      **options: what else the model is called with.

    Returns:
      The output of the whole batch; and the variables with the statistics after the step.
    """
    if is_frozen:
        variables = jax.lax.stop_gradient(variables)
        local: Any = encoder.apply(variables, inputs, shard=context.shard, **options)
        return whole_batch(local, context.shard), variables
    local, variables = apply_in_training(
        encoder, variables, inputs, dropout_key=context.dropout_key, shard=context.shard, **options
    )
    return whole_batch(local, context.shard), variables


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
        inputs: ModelInputs,
        targets: Any,
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the total loss of a batch, the metrics that a step reports, and the new statistics.

        Args:
          encoder: the model.
          params: its parameters and statistics, with those of a memory where the stage has one.
          inputs: the inputs of the model; those of a shard, if there is one.
          targets: what the images are compared with, of the whole batch: labels, or ``MemoryTargets``.
          context: the key of the dropout, the progress of the training, and the shard.
        """

    def record(self, metrics: Any, schema: AttributeSchema) -> dict[str, Any]:
        """Returns the record of a step besides its ``loss``: by default, all other metrics.

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
