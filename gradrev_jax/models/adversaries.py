"""Defines adversaries that read the features of an encoder; they are trained with it, but not part of it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.label_counts import label_slots
from gradrev_jax.core.vectors import unit_with_safe_gradient
from gradrev_jax.models.attribute_linear import AttributeLinear, he_normal_batched


class Adversaries(nn.Module):
    """A few small MLPs per feature, each of which predicts all attributes from it and from its own label.

    An adversary of feature j reads only the direction of the feature, so that the encoder cannot escape by
    changing norms, and the label of attribute j; a missing label is one more value. Its output is added to
    the log-prior given that label. It is 0 before the first step, so that an adversary starts at the prior.

    Attributes:
      schema: the attributes.
      copies: the number of MLPs per feature, which differ in their random start.
      hidden: the number of hidden units of each.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> features, labels, prior = jnp.ones((4, 2, 8)), jnp.zeros((4, 2), int), jnp.full((7, 5), 0.2)
      >>> logits, _ = Adversaries(schema).init_with_output(jax.random.key(0), features, labels, prior)
      >>> logits.shape
      (3, 4, 2, 5)
    """

    schema: AttributeSchema
    copies: int = 3
    hidden: int = 128

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B N d"],
        labels: Int[Array | np.ndarray, "B N"],
        prior: Float[Array | np.ndarray, "S J"],
    ) -> Float[Array, "K B N J"]:
        """Computes the logits of every copy; those of a feature's own attribute mean nothing.

        Args:
          features: the features, [B, N, d].
          labels: [B, N], -1 = not labelled.
          prior: the prior given the own label, as ``label_counts.conditionals`` returns it.
        """
        n, dtype = self.schema.num_attributes, features.dtype
        labels = jnp.asarray(sanitize_labels(labels, self.schema))
        slots = max(self.schema.sizes)
        own = jax.nn.one_hot(jnp.where(labels == NOT_LABELLED, slots, labels), slots + 1, dtype=dtype)
        # With a length of sqrt(d), so that entries are about as large as those of the one-hot label.
        directions = unit_with_safe_gradient(features) * features.shape[-1] ** 0.5
        x = jnp.concatenate([directions, own], axis=-1)
        hidden = AttributeLinear(n, self.copies * self.hidden, he_normal_batched, dtype, name="hidden")(x)
        hidden = nn.relu(hidden).reshape(len(x), n * self.copies, self.hidden)
        zeros = nn.initializers.zeros
        out = AttributeLinear(n * self.copies, self.schema.num_values, zeros, dtype, name="out")(hidden)
        by_copy = jnp.moveaxis(out.reshape(len(x), n, self.copies, -1), 2, 0)
        return by_copy + jnp.log(jnp.asarray(prior, dtype))[label_slots(labels, self.schema)]
