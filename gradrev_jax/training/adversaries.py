"""Builds the adversaries of stage 1 from a run's config."""

import numpy as np
import optax
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.label_counts import conditionals, count_pairs
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.training.adversarial_step import Removal


def build_removal(
    config: ConfigDict,
    labels: Int[np.ndarray, "M N"],
    schema: AttributeSchema,
    schedule: optax.Schedule,
) -> Removal | None:
    """Builds the adversaries of stage 1 that a config describes, if it has some.

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
