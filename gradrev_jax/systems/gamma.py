"""GAMMA's idea: Transformers edit the features of an encoder that stays as it is.

After the abstract of "Garment Attribute Manipulation with Multi-level Attention" (Casula et al., 2024, arXiv
2409.10206). The layers, the losses and all sizes are our own; it is no reproduction.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from gradrev_jax.core.edit_losses import edit_losses
from gradrev_jax.core.learned_edits import EditFunction
from gradrev_jax.core.memory_losses import Block, only_blocks
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.token_editor import TokenEditor
from gradrev_jax.systems import gradrev
from gradrev_jax.systems.backbone import PRECISIONS
from gradrev_jax.systems.field import Field, at_least
from gradrev_jax.systems.memory_loss import MemoryWeights
from gradrev_jax.systems.objective import (
    ENCODER,
    MEMORY,
    LossParts,
    MemoryTargets,
    ModelInputs,
    Objective,
    StepContext,
    encode_batch,
)
from gradrev_jax.systems.system import SecondStage, System, fixed_field_problems

# What stage 2 trains beside the encoder.
PROTOTYPES, EDITOR = "prototypes", "editor"

FIELDS = {
    "width": Field(
        default=128,
        meaning="Width of the Transformers' tokens, a multiple of `gamma.heads`.",
        rule=at_least(1),
        earlier=128,
    ),
    "heads": Field(default=4, meaning="Heads of each attention.", rule=at_least(1), earlier=4),
    "layers": Field(
        default=2, meaning="Blocks of each of the two Transformers.", rule=at_least(1), earlier=2
    ),
}


class EditorMetrics(NamedTuple):
    """Represents the metrics of a step, before its update; the terms are without their weights."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_semi_hard: Float[Array, ""]
    loss_margin: Float[Array, ""]
    loss_consistency: Float[Array, ""]
    loss_off_block: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class EditorObjective(Objective):
    """The loss of the editor and of its memory, with an encoder that stays as it is.

    Attributes:
      editor: the editor.
      weights: the weights of the terms; that of ``classification`` counts for the edited feature alone.
      block: ``soft``: the memory may leave its blocks, at a price; ``hard``: what lies outside is masked.
      margin: the margin of both triplet losses.
    """

    editor: TokenEditor
    weights: MemoryWeights
    block: Block = "soft"
    margin: float = 0.5

    @property
    def frozen(self) -> tuple[str, ...]:
        """The encoder."""
        return (ENCODER,)

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        inputs: ModelInputs,
        targets: MemoryTargets,
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the loss of a batch of triplets; nothing is dropped out, or depends on the progress."""
        output, variables = encode_batch(encoder, params[ENCODER], inputs, context, is_frozen=True)
        labels = jnp.asarray(targets.labels)
        features = output.features.reshape(*labels.shape, -1)
        memory = params[MEMORY][PROTOTYPES]
        if self.block == "hard":
            memory = only_blocks(memory, encoder.schema)
        edited = edit(self.editor, params[MEMORY] | {PROTOTYPES: memory}, features[0], targets.indicators)

        def classify(features: Float[Array, "B N d"]) -> Float[Array, "B N C"]:
            logits: Any = encoder.apply(variables, features, method="classify")
            return logits

        terms = edit_losses(
            features,
            edited,
            labels,
            memory,
            encoder.schema,
            classify,
            missing=encoder.missing,
            margin=self.margin,
        )
        total = self.weights.total(terms)
        return total, LossParts(EditorMetrics(total, *terms), params)


def edit(
    editor: TokenEditor,
    trained: Any,
    features: Float[Array, "Q N d"],
    indicators: Int[Array | np.ndarray, "Q J"],
) -> Float[Array, "Q N d"]:
    """Edits features by what stage 2 trains beside the encoder.

    Args:
      editor: the editor.
      trained: the prototypes, and the editor's parameters.
      features: the features, [Q, N, d].
      indicators: the changes, [Q, J].
    """
    edited: Any = editor.apply({"params": trained[EDITOR]}, features, indicators, trained[PROTOTYPES])
    return edited


def build_editor(config: ConfigDict, encoder: Encoder) -> TokenEditor:
    """Builds the editor that a config describes."""
    gamma, dtype = config.gamma, PRECISIONS[config.precision]
    return TokenEditor(encoder.schema, gamma.width, gamma.heads, gamma.layers, dtype)


def begin(config: ConfigDict, encoder: Encoder, prototypes: Float[Array, "J N d"]) -> dict[str, Any]:
    """Creates the first parameters of stage 2: the prototypes, and an editor that edits by Eq. 7."""
    editor, (num_values, *blocks) = build_editor(config, encoder), prototypes.shape
    example = jnp.zeros((1, *blocks)), jnp.zeros((1, num_values)), prototypes
    variables = jax.jit(editor.init)(jax.random.key(config.seed), *example)
    return {PROTOTYPES: prototypes, EDITOR: variables["params"]}


def objective(config: ConfigDict, encoder: Encoder) -> EditorObjective:
    """Returns the objective of stage 2 that a config describes."""
    memory = config.memory
    return EditorObjective(
        build_editor(config, encoder), MemoryWeights(**memory.weights), memory.block, memory.margin
    )


def make_edit(config: ConfigDict, encoder: Encoder) -> EditFunction:
    """Returns the edit of a trained run."""
    editor = build_editor(config, encoder)

    def edit_by(
        params: Any, features: Float[Array, "Q N d"], indicators: Int[Array, "Q J"]
    ) -> Float[Array, "Q N d"]:
        return edit(editor, params[MEMORY], features, indicators)

    return edit_by


def problems(config: ConfigDict) -> Iterable[str]:
    """Yields settings that this system does not support."""
    if config.gamma.width % config.gamma.heads:
        yield (
            f"gamma.width = {config.gamma.width}: a multiple of gamma.heads, which is {config.gamma.heads}"
        )
    yield from fixed_field_problems(
        config, {"memory.reversal": False}, "stage 2 of the system 'gamma' trains no encoder"
    )


SYSTEM = System(
    meaning="the encoder of Scaramuzzino et al. (2023), whose features two Transformers and a memory edit, "
    "after the abstract of GAMMA (Casula et al., 2024)",
    build=gradrev.build,
    encoder_objective=gradrev.encoder_objective,
    second_stage=SecondStage(begin=begin, objective=objective, make_edit=make_edit),
    fields=FIELDS,
    problems=problems,
)
