"""The optimiser and its learning rate (Section 4.2), with common options besides the paper's."""

from collections.abc import Collection
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

Schedule = Literal["step", "cosine", "constant"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def learning_rate_schedule(
    peak: float,
    *,
    kind: Schedule = "step",
    decay_rate: float,
    decay_steps: int,
    warmup_steps: int = 0,
    total_steps: int,
) -> optax.Schedule:
    """Creates a schedule, the function from the step to the learning rate.

    Args:
      peak: the learning rate after the warm-up.
      kind: ``step`` multiplies the rate by ``decay_rate`` every ``decay_steps`` (Section 4.2), ``cosine``
        lowers it to 0 at ``total_steps``, ``constant`` keeps it.
      decay_rate: the factor of each decay of ``step``.
      decay_steps: the number of steps between two decays of ``step``.
      warmup_steps: the number of steps in which the rate first rises from 0.
      total_steps: the number of steps of the whole training.

    Raises:
      ValueError: an unknown kind.

    Example:
      >>> schedule = learning_rate_schedule(1e-4, decay_rate=0.5, decay_steps=30, total_steps=75)
      >>> [round(float(schedule(step)), 6) for step in (0, 29, 30, 60)]
      [0.0001, 0.0001, 5e-05, 2.5e-05]
    """
    if kind not in SCHEDULES:
        raise ValueError(f"kind must be one of {', '.join(SCHEDULES)}, got {kind!r}")
    if kind == "step":
        schedule = optax.exponential_decay(peak, decay_steps, decay_rate, staircase=True)
    elif kind == "cosine":
        schedule = optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1))
    else:
        schedule = optax.constant_schedule(peak)
    if not warmup_steps:
        return schedule
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    if kind == "cosine":
        return optax.join_schedules([warmup, schedule], [warmup_steps])
    return lambda step: jnp.minimum(warmup(step), schedule(step))  # decays count from the first step


def make_optimizer(
    schedule: optax.Schedule,
    *,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    frozen: Collection[str] = (),
) -> optax.GradientTransformation:
    """Creates Adam (Section 4.2) or, with a weight decay, AdamW, which spares biases and vectors.

    Args:
      schedule: the learning rate by step.
      weight_decay: the share of each weight that a step subtracts, times the learning rate; 0: none.
      clip_norm: the global norm that larger gradients are scaled down to; None: no clipping.
      frozen: the names of parts of the parameters whose gradient is 0, and which are not to decay either.

    Example:
      >>> optimizer = make_optimizer(optax.constant_schedule(0.1), clip_norm=1.0)
      >>> state = optimizer.init({"x": jnp.ones(2)})
      >>> updates, state = optimizer.update({"x": jnp.array([3.0, 4.0])}, state)
      >>> [round(float(update), 3) for update in updates["x"]]  # Adam's first step has the rate's size
      [-0.1, -0.1]
    """

    def is_weight(params: Any) -> Any:
        def decays(path: tuple[Any, ...], leaf: Any) -> bool:
            names = [getattr(key, "key", None) for key in path]
            # Biases of several attributes, or attention heads, have two dimensions.
            return leaf.ndim > 1 and "bias" not in names and not set(names[:1]) & set(frozen)

        return jax.tree_util.tree_map_with_path(decays, params)

    optimizer = optax.adam(schedule)
    if weight_decay:
        optimizer = optax.adamw(schedule, weight_decay=weight_decay, mask=is_weight)
    return optimizer if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
