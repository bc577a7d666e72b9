"""Builds what the stages of a run minimise from its config."""

import numpy as np
import optax
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.conditional_dependence import expected_labels
from gradrev_jax.core.decorrelation import decorrelation
from gradrev_jax.core.label_counts import conditionals, count_pairs
from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.training.adversarial_step import Removal
from gradrev_jax.training.encoder_step import EncoderObjective
from gradrev_jax.training.memory_step import MemoryObjective, MemoryWeights


def encoder_objective(
    config: ConfigDict,
    reversal_scale: float | np.ndarray,
    labels: Int[np.ndarray, "M N"],
    schema: AttributeSchema,
) -> EncoderObjective:
    """Returns the objective of stage 1 that a config describes.

    Args:
      config: the config of a run.
      reversal_scale: lambda, as ``builders.reversal_scale`` returns it.
      labels: [M, N], the training labels, whose statistics some terms need; -1 = not labelled.
      schema: the attributes, with a class for missing labels where there is one.
    """
    train = config.train
    return EncoderObjective(
        weighting=config.reversal.weighting,
        beta=config.reversal.beta,
        reversal_scale=reversal_scale,
        w_cls=config.train.classification_weight,
        term_weights={name: config.train[f"{name}_weight"] for name in TERMS},
        triplet_margin=config.train.triplet_margin,
        expected=expected_labels(labels, schema) if train.conditional_dependence_weight else None,
        decorrelation=decorrelation(labels, schema, largest=train.decorrelate) if train.decorrelate else None,
    )


def removal_of(
    config: ConfigDict,
    labels: Int[np.ndarray, "M N"],
    schema: AttributeSchema,
    schedule: optax.Schedule,
) -> Removal | None:
    """Returns the adversaries of stage 1 that a config describes, if it has some.

    Args:
      config: the config of a run.
      labels: [M, N], the training labels, -1 = not labelled.
      schema: the attributes, with a class for missing labels where there is one.
      schedule: the learning rate of the encoder by step.
    """
    reversal = config.reversal
    if not reversal.adversaries:
        return None
    return Removal(
        Adversaries(schema, copies=reversal.adversaries),
        conditionals(count_pairs(labels, schema), schema),
        optax.adam(lambda count: reversal.adversary_rate * schedule(count // reversal.adversary_steps)),
        steps=reversal.adversary_steps,
        target=reversal.adversary_target,
    )


def memory_objective(config: ConfigDict, reversal_scale: float | np.ndarray) -> MemoryObjective:
    """Returns the objective of stage 2 that a config describes; see ``encoder_objective``."""
    return MemoryObjective(
        weights=MemoryWeights(**config.memory.weights),
        block=config.memory.block,
        freeze_encoder=config.memory.freeze_encoder,
        reversal=config.memory.reversal,
        beta=config.reversal.beta,
        reversal_scale=reversal_scale,
        margin=config.memory.margin,
    )
