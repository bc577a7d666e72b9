"""AMNet as a system: from a config to its model, its objectives and its edit."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import EditFunction
from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.models.interface import Encoder
from gradrev_jax.systems.amnet.edit import Memory, edit_features
from gradrev_jax.systems.amnet.losses import EditedObjective, EntangledObjective
from gradrev_jax.systems.amnet.model import EntangledEncoder
from gradrev_jax.systems.backbone import backbone_fields
from gradrev_jax.systems.field import Field, at_least
from gradrev_jax.systems.objective import MEMORY
from gradrev_jax.systems.system import SecondStage, System, fixed_field_problems


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
    """Yields settings that AMNet does not support."""
    unused: dict[str, Any] = {
        "model.heads": "shared",
        "model.unit_features": False,
        "reversal.weighting": "off",
        "reversal.adversaries": 0,
        "train.decorrelate": 0,
        **{f"train.{name}_weight": 0 for name in TERMS},
    }
    if MEMORY in config.stages:
        unused |= {f"memory.weights.{name}": 0 for name in ("semi_hard", "consistency", "off_block")}
        unused |= {"memory.block": "soft", "memory.reversal": False}
    return fixed_field_problems(config, unused, "the system 'amnet' has one feature for all")


SYSTEM = System(
    meaning="AMNet (Zhao et al., 2017), one feature for all attributes and a learned edit",
    build=build,
    encoder_objective=lambda config, encoder, labels: EntangledObjective(config.train.classification_weight),
    second_stage=SecondStage(
        begin=begin,
        objective=lambda config, encoder: EditedObjective(
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
    without=("model.heads", "reversal.weighting"),
    problems=problems,
)
