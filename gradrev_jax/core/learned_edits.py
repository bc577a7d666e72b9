"""Edits that are learned: any function of features and indicators, in place of Eq. 7."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# A pure function of parameters, of features [Q, P, d] and of indicators [Q, J] to edited features [Q, P, d].
EditFunction = Callable[[Any, Float[Array, "Q P d"], Int[Array, "Q J"]], Float[Array, "Q P d"]]


@dataclasses.dataclass(frozen=True, eq=False)
class LearnedEdit:
    """An edit that is learned, with the parameters that it has.

    Its name in reports is ``learned``.

    Attributes:
      function: the edit, a pure function. Edits with the same function object share one compiled program.
      params: its first argument.

    Example:
      >>> shift = LearnedEdit(lambda by, f, i: f + by * i.sum(axis=1)[:, None, None], 2.0)
      >>> shift(np.ones((1, 1, 2), np.float32), np.array([[1, 0]]), strength=0.5).tolist()
      [[[2.0, 2.0]]]
    """

    function: EditFunction
    params: Any

    def __call__(
        self,
        features: Float[Array | np.ndarray, "Q P d"],
        indicators: Int[Array | np.ndarray, "Q J"],
        *,
        strength: float | Float[Array | np.ndarray, " Q"] = 1.0,
    ) -> Float[Array, "Q P d"]:
        r"""Moves features by a share s, the strength, of the learned edit; above 1, beyond it.

        .. math::
            f' = (1 - s) \, f + s \, \mathrm{edit}(f, i)

        For Eq. 7 this is what a strength does. At 1, it is the edit as it was learned. Where nothing is asked
        for, that is where an indicator is zero, features stay as they are.

        Args:
          features: [Q, P, d].
          indicators: [Q, J], +1 for a value that is added, -1 for one that is removed.
          strength: s; one of all, or one of each, [Q].
        """
        return _edit(self.function, self.params, jnp.asarray(features), jnp.asarray(indicators), strength)

    def __str__(self) -> str:
        return "learned"


@functools.partial(jax.jit, static_argnums=0)
def _edit(
    function: EditFunction,
    params: Any,
    features: Float[Array, "Q P d"],
    indicators: Int[Array, "Q J"],
    strength: float | Float[Array, ""] | Float[Array, " Q"],
) -> Float[Array, "Q P d"]:
    share = jnp.reshape(strength, (-1, 1, 1))
    edited = (1 - share) * features + share * function(params, features, indicators)
    return jnp.where((indicators != 0).any(axis=1)[:, None, None], edited, features)
