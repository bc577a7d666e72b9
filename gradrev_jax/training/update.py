"""One step of gradient descent on an objective, as a pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from gradrev_jax.core.fusion import compute_apart
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.variables import trainable, with_statistics
from gradrev_jax.systems.objective import LossParts, Objective, StepContext

# Names under which a profile of a step has these parts; see benchmarks/step_profile.py.
INPUT_SCOPE, OPTIMIZER_SCOPE = "input", "optimizer"


class TrainState(NamedTuple):
    """Represents all that a step changes; everything random is derived from the seed and ``step``.

    Attributes:
      step: the number of steps done.
      params: the parameters, and the statistics of a model that has some (see ``models.variables``).
      opt_state: the state of the optimizer, for the parameters alone.
      adversaries: the ``AdversaryState`` of a stage that trains against adversaries; None: there are none.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    adversaries: Any = None

    @classmethod
    def begin(cls, params: Any, optimizer: optax.GradientTransformation) -> "TrainState":
        """Creates the state before the first step."""
        # One program for all leaves: one per shape would take longer to load than to run.
        opt_state = jax.jit(optimizer.init)(trainable(params))
        return cls(jnp.asarray(np.zeros((), np.int32)), params, opt_state)


# An update: (state, batch of a shard, targets of the whole batch, shard) -> (state, metrics). The batch is of
# uint8 images [b, S, S, 3] or vectors [b, V, D], see ``models.inputs.Rows``.
Update = Callable[[TrainState, Array, Any, BatchShard | None], tuple[TrainState, Any]]

# An update of which the objective is an argument, too: (objective, state, ...) -> (state, parts of the loss).
ObjectiveUpdate = Callable[
    [Objective, TrainState, Array, Any, BatchShard | None], tuple[TrainState, LossParts]
]


def make_update(
    encoder: Encoder,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    seed: int,
    total_steps: int,
    mirror: bool = True,
) -> Update:
    """Returns a pure update: flip and normalise the inputs, compute the loss and its gradient, descend.

    Flips and dropout are pure functions of (seed, step).

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      objective: the loss to minimise.
      seed: the seed of flips and dropout.
      total_steps: the number of steps of the whole training, which schedules of the objective count towards.
      mirror: whether images are mirrored at random.
    """
    update_with = make_objective_update(encoder, optimizer, seed=seed, total_steps=total_steps, mirror=mirror)

    def update(
        state: TrainState, batch: Array, targets: Any, shard: BatchShard | None = None
    ) -> tuple[TrainState, Any]:
        state, parts = update_with(objective, state, batch, targets, shard)
        return state, parts.metrics

    return update


def make_objective_update(
    encoder: Encoder,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    total_steps: int,
    mirror: bool = True,
) -> ObjectiveUpdate:
    """Returns an update whose objective may depend on the state, and that returns all parts of the loss.

    The arguments are those of ``make_update``.
    """

    def update_with(
        objective: Objective, state: TrainState, batch: Array, targets: Any, shard: BatchShard | None
    ) -> tuple[TrainState, LossParts]:
        flip_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        with jax.named_scope(INPUT_SCOPE):
            views = encoder.inputs.augment(flip_key, batch, shard) if mirror else batch
            inputs = encoder.inputs.normalize(views)
        context = StepContext(dropout_key, state.step / total_steps, shard)

        def loss(params: Any) -> tuple[Array, LossParts]:
            return objective.loss(encoder, params, inputs, targets, context)

        return descend(state, loss, optimizer, shard)

    return update_with


def descend(
    state: TrainState,
    loss: Callable[[Any], tuple[Array, LossParts]],
    optimizer: optax.GradientTransformation,
    shard: BatchShard | None,
) -> tuple[TrainState, LossParts]:
    """Takes one optimizer step on a loss of the whole batch; returns the new state and the loss's parts."""
    trained = trainable(state.params)

    def loss_of_trained(trained: Any) -> tuple[Array, LossParts]:
        return loss(with_statistics(trained, state.params))

    gradients, parts = jax.grad(loss_of_trained, has_aux=True)(trained)
    if shard is not None and shard.axis:
        gradients = jax.lax.pmean(gradients, shard.axis)  # see whole_batch
    gradients = jax.lax.platform_dependent(gradients, cpu=_wait_for_all, default=lambda gradients: gradients)
    with jax.named_scope(OPTIMIZER_SCOPE):
        updates, opt_state = optimizer.update(gradients, state.opt_state, trained)
        trained = optax.apply_updates(trained, updates)
    params = with_statistics(trained, parts.variables)
    return state._replace(step=state.step + 1, params=params, opt_state=opt_state), parts


def _wait_for_all(gradients: Any) -> Any:
    """Returns the gradients, each made to depend on all others: no parameter changes before all are computed.

    XLA can then write the new parameters over the old ones, because nothing reads these any more. Without
    this dependence it does not know that, and copies all parameters first.
    """

    def zero(*leaves: Array) -> Array:
        numbers = [jax.lax.index_in_dim(leaf.reshape(-1), 0, keepdims=False) for leaf in leaves]
        return 0 * jnp.stack(numbers).sum()  # XLA cannot simplify it to 0, because it may be NaN

    depends_on_all = compute_apart(zero, *jax.tree.leaves(gradients))
    return jax.tree.map(lambda leaf: leaf + depends_on_all.astype(leaf.dtype), gradients)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Returns whether all floating-point numbers of a tree are finite.

    For a state, this includes the optimizer's moments. A gradient of 1e20 is finite, but its square is not,
    and a parameter whose second moment is infinite silently never moves again.

    Args:
      tree: arrays; those of other dtypes count as finite.

    Example:
      >>> bool(all_finite({"a": jnp.ones(3), "n": jnp.ones((), jnp.int32)}))
      True
    """
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats] or [jnp.array(True)]).all()
