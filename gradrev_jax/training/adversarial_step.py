"""Stage 1 against adversaries of their own (the repaired reversal), as pure functions; not the paper's."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from gradrev_jax.core.losses import other_attributes, pathway_losses, reversal_weight
from gradrev_jax.core.removal import removal_losses
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.objective import LossParts, ModelInputs, Objective, StepContext
from gradrev_jax.training.update import TrainState, Update, make_objective_update


class AdversaryState(NamedTuple):
    """Represents what the adversaries' steps change.

    Attributes:
      params: the variables of ``Adversaries``.
      opt_state: the state of their optimizer.
    """

    params: Any
    opt_state: Any


@dataclasses.dataclass(frozen=True)
class AdversarialTraining:
    """Represents the adversaries of an encoder, and how they and the features are trained.

    Attributes:
      adversaries: the model of the adversaries, of the encoder's classes.
      prior: the prior given the own label, see ``label_counts.conditionals``.
      optimizer: the Optax optimizer of the adversaries.
      steps: the number of steps that they take per step of the encoder, all on its features of one batch.
      target: what features minimise, one of ``removal.REMOVAL_TARGETS``.

    Example:
      >>> from gradrev_jax import AttributeSchema
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> AdversarialTraining(Adversaries(schema), np.full((3, 2), 0.5), optax.adam(1e-3)).steps
      3
    """

    adversaries: Adversaries
    prior: Float[np.ndarray, "S J"]
    optimizer: optax.GradientTransformation
    steps: int = 3
    target: str = "clipped"

    def begin(self, state: TrainState, *, feature_dim: int, seed: int) -> TrainState:
        """Returns the state of an encoder before its first step, with that of adversaries.

        Args:
          state: the state of the encoder.
          feature_dim: the width of one attribute's feature.
          seed: the seed of the adversaries' parameters.
        """
        n = self.adversaries.schema.num_attributes
        example = jnp.zeros((1, n, feature_dim)), jnp.zeros((1, n), jnp.int32), self.prior
        key = jax.random.fold_in(jax.random.key(seed), n)  # the encoder's parameters have the seed's own
        params = jax.jit(self.adversaries.init)(key, *example)
        return state._replace(adversaries=AdversaryState(params, self.optimizer.init(params)))

    def loss(
        self,
        params: Any,
        features: Float[Array, "B N d"],
        labels: Int[Array | np.ndarray, "B N"],
        scale: float | Float[Array | np.ndarray, "N N"] = 1.0,
    ) -> Float[Array, ""]:
        """Computes the loss of the features, the mean over copies; see ``removal_losses``.

        Args:
          params: the variables of the adversaries.
          features: [B, N, d].
          labels: [B, N], -1 = not labelled.
          scale: the weight of all pathways, or of each, [N, N].
        """

        def by_copy(logits: Float[Array, "B N J"]) -> Float[Array, "N N"]:
            return removal_losses(logits, labels, self.prior, self.adversaries.schema, target=self.target)

        logits: Any = self.adversaries.apply(params, features, labels, self.prior)
        return self._over_pathways(jax.vmap(by_copy)(logits) * jnp.asarray(scale, features.dtype))

    def adversary_loss(
        self, params: Any, features: Float[Array, "B N d"], labels: Int[Array | np.ndarray, "B N"]
    ) -> Float[Array, ""]:
        """Computes the loss of the adversaries: the cross-entropy of the other attributes' labels."""
        logits: Any = self.adversaries.apply(params, features, labels, self.prior)
        losses = jax.vmap(lambda logits: pathway_losses(logits, labels, self.adversaries.schema))(logits)
        return self._over_pathways(losses)

    def train(
        self, state: AdversaryState, features: Float[Array, "B N d"], labels: Int[Array | np.ndarray, "B N"]
    ) -> tuple[AdversaryState, Float[Array, ""]]:
        """Takes the adversaries' steps on given features; returns their loss before the first, too."""
        features = jax.lax.stop_gradient(features)

        def step(state: AdversaryState, _: None) -> tuple[AdversaryState, Float[Array, ""]]:
            loss, gradients = jax.value_and_grad(self.adversary_loss)(state.params, features, labels)
            updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
            return AdversaryState(optax.apply_updates(state.params, updates), opt_state), loss

        state, losses = jax.lax.scan(step, state, length=self.steps)
        return state, losses[0]

    def _over_pathways(self, losses: Float[Array, "K N N"]) -> Float[Array, ""]:
        """Sums over features the mean over the attributes that are not their own, and over copies."""
        n = losses.shape[-1]
        others = other_attributes(n) / max(n - 1, 1)
        return (losses.mean(axis=0) * others).sum()


@dataclasses.dataclass(frozen=True)
class _AdversarialObjective(Objective):
    """The loss of stage 1 with the adversaries' in place of the classifiers' reversal.

    Attributes:
      objective: the loss of stage 1; its weighting and beta are the adversaries', its scale weighs pathways.
      training: the adversaries, and how they are trained.
      params: their variables before the step, which the encoder's gradient leaves alone.
    """

    objective: EncoderObjective
    training: AdversarialTraining
    params: Any

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        inputs: ModelInputs,
        targets: Int[Array, "B N"],
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the total loss, w_cls L_cls + w_rev L_rem and additional terms."""
        given = self.objective
        total, parts = dataclasses.replace(given, weighting="off").loss(
            encoder, params, inputs, targets, context
        )
        labels = encoder.class_labels(targets)
        removed = self.training.loss(self.params, parts.features, labels, given.reversal_scale)
        weight = reversal_weight(
            parts.metrics.loss_cls,
            removed,
            weighting=given.weighting,
            beta=given.beta,
            w_cls=given.w_cls,
            progress=context.progress,
        )
        total += weight * removed
        metrics = parts.metrics._replace(
            loss=total, w_rev=weight, terms={**parts.metrics.terms, "removal": removed}
        )
        return total, parts._replace(metrics=metrics)


def make_adversarial_update(
    training: AdversarialTraining,
    encoder: Encoder,
    optimizer: optax.GradientTransformation,
    objective: EncoderObjective,
    *,
    seed: int,
    total_steps: int,
    mirror: bool = True,
) -> Update:
    """Returns a pure update: the encoder's step against the adversaries, then theirs on the same features.

    The state is one of ``AdversarialTraining.begin``. What the two sides minimise is logged as the terms
    ``removal`` and ``adversaries``.

    Args:
      training: the adversaries, and how they are trained.
      encoder: the model.
      optimizer: the Optax optimizer of the encoder.
      objective: the loss of stage 1; w_rev is the weight of what features minimise, and the classifiers' own
        reversal is off.
      seed: the seed of flips and dropout.
      total_steps: the number of steps of the whole training, which schedules count towards.
      mirror: whether images are mirrored at random.
    """
    update_with = make_objective_update(encoder, optimizer, seed=seed, total_steps=total_steps, mirror=mirror)

    def update(
        state: TrainState, batch: Array, targets: Any, shard: BatchShard | None = None
    ) -> tuple[TrainState, Any]:
        against = _AdversarialObjective(objective, training, state.adversaries.params)
        state, parts = update_with(against, state, batch, targets, shard)
        adversaries, loss = training.train(state.adversaries, parts.features, encoder.class_labels(targets))
        metrics = parts.metrics._replace(terms={**parts.metrics.terms, "adversaries": loss})
        return state._replace(adversaries=adversaries), metrics

    return update
