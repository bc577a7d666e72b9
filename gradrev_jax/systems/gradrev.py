"""The paper's system, and all that differ from it in fields of the config alone, such as ADDE-M."""

import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.conditional_dependence import expected_labels
from gradrev_jax.core.decorrelation import decorrelation
from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.errors import ConfigError
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.interface import Encoder
from gradrev_jax.systems.backbone import backbone_fields
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.memory_loss import MemoryObjective, MemoryWeights
from gradrev_jax.systems.system import SecondStage, System


def build(config: ConfigDict, schema: AttributeSchema) -> AttributeEncoder:
    """Builds the model; if its backbone is frozen, the model that reads what the backbone gives."""
    return AttributeEncoder(
        schema,
        feature_dim=config.model.feature_dim,
        heads=config.model.heads,
        reach=config.reversal.reach,
        unit_features=config.model.unit_features,
        logit_scale=config.model.logit_scale,
        **backbone_fields(config),
    )


def reversal_scale(config: ConfigDict, schema: AttributeSchema) -> float | np.ndarray:
    """Returns lambda of all pathways, or of each, [N, N]: one row per feature, one column per classifier.

    Raises:
      ConfigError: reversal.strengths is not N rows of N numbers.
    """
    if not config.reversal.strengths:
        return config.reversal.scale
    n = schema.num_attributes
    try:
        strengths = np.array(config.reversal.strengths, np.float32)
    except (TypeError, ValueError) as error:  # other entries, or rows of other lengths
        raise ConfigError(f"reversal.strengths must be {n} rows of {n} numbers: {error}") from error
    if strengths.shape != (n, n) or not np.isfinite(strengths).all():
        raise ConfigError(
            f"reversal.strengths must be {n} rows of {n} numbers, one row per feature and one column per "
            f"classifier, both in the order {', '.join(schema.names)}; got shape {strengths.shape}"
        )
    return config.reversal.scale * strengths


def encoder_objective(
    config: ConfigDict, encoder: Encoder, labels: Int[np.ndarray, "M N"]
) -> EncoderObjective:
    """Returns the objective of stage 1 that a config describes.

    Args:
      config: the config of a run.
      encoder: the model.
      labels: the training labels, whose statistics some terms need; -1 = not labelled.

    Raises:
      ConfigError: as for ``reversal_scale``.
    """
    train, classes = config.train, encoder.classes
    class_labels = np.asarray(encoder.class_labels(labels))
    return EncoderObjective(
        weighting=config.reversal.weighting,
        beta=config.reversal.beta,
        reversal_scale=reversal_scale(config, encoder.schema),
        w_cls=train.classification_weight,
        # A term that was registered since the fields were made has no field.
        term_weights={name: train[f"{name}_weight"] for name in TERMS if f"{name}_weight" in train},
        triplet_margin=train.triplet_margin,
        expected=expected_labels(class_labels, classes) if train.conditional_dependence_weight else None,
        decorrelation=decorrelation(class_labels, classes, largest=train.decorrelate)
        if train.decorrelate
        else None,
    )


def memory_objective(config: ConfigDict, encoder: Encoder) -> MemoryObjective:
    """Returns the objective of stage 2 that a config describes; see ``encoder_objective``.

    Raises:
      ConfigError: a reversal without an encoder that it trains. Runs that had one are evaluated all the same.
    """
    if config.memory.reversal and config.memory.freeze_encoder:
        raise ConfigError(
            "memory.reversal = True: False where memory.freeze_encoder is set, because L_rev trains the "
            "encoder alone"
        )
    return MemoryObjective(
        weights=MemoryWeights(**config.memory.weights),
        block=config.memory.block,
        freeze_encoder=config.memory.freeze_encoder,
        reversal=config.memory.reversal,
        beta=config.reversal.beta,
        reversal_scale=reversal_scale(config, encoder.schema),
        margin=config.memory.margin,
    )


def begin_memory(
    config: ConfigDict, encoder: Encoder, prototypes: Float[Array, "J P d"]
) -> Float[Array, "J P d"]:
    """Returns the memory that stage 2 starts from: the prototypes (Eq. 6)."""
    return prototypes


SYSTEM = System(
    meaning="the encoder of Scaramuzzino et al. (2023), of one feature per attribute",
    build=build,
    encoder_objective=encoder_objective,
    second_stage=SecondStage(begin=begin_memory, objective=memory_objective),
)
