"""Builds the adversaries of stage 1 from a run's config."""

import numpy as np
import optax
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.core.label_counts import conditionals, count_pairs
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.models.interface import Encoder
from gradrev_jax.training.adversarial_step import AdversarialTraining


def build_adversarial_training(
    config: ConfigDict, encoder: Encoder, labels: Int[np.ndarray, "M N"], schedule: optax.Schedule
) -> AdversarialTraining | None:
    """Builds the adversaries of stage 1 that a config describes, if it has some.

    Args:
      config: the config of a run.
      encoder: the model.
      labels: [M, N], the training labels, -1 = not labelled.
      schedule: the learning rate of the encoder by step.
    """
    reversal = config.reversal
    if not reversal.adversaries:
        return None
    class_labels = np.asarray(encoder.class_labels(labels))
    return AdversarialTraining(
        Adversaries(encoder.classes, copies=reversal.adversaries),
        conditionals(count_pairs(class_labels, encoder.classes), encoder.classes),
        optax.adam(lambda count: reversal.adversary_rate * schedule(count // reversal.adversary_steps)),
        steps=reversal.adversary_steps,
        target=reversal.adversary_target,
    )
