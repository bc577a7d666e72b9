"""The classifiers of all attributes, which read every feature, with a gradient reversal per pathway."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.gradient_reversal import reverse_gradient
from gradrev_jax.core.vectors import unit_with_safe_gradient
from gradrev_jax.models.attribute_linear import lecun_normal_batched


class Classifiers(nn.Module):
    """One linear classifier per attribute, applied to every feature in a single product.

    Attributes:
      schema: the attributes, with their classes as values.
      pairwise: whether each feature has its own classifiers.
      dtype: the dtype of the computation.
      cosine_scale: the length that the weights of every value are brought to, without a bias: of features of
        length 1, logits are then cosines times this scale. None: weights have any length, and a bias.
    """

    schema: AttributeSchema
    pairwise: bool
    dtype: DTypeLike = jnp.float32
    cosine_scale: float | None = None

    def without_reversal(self, features: Float[Array, "B N d"]) -> Float[Array, "B N J"]:
        """Computes the logits of features, whose gradient passes as it is.

        Args:
          features: the features.
        """
        # A reversal by -1 changes no gradient.
        return self((features, jnp.full((self.schema.num_attributes, self.schema.num_values), -1.0)))

    @nn.compact
    def __call__(self, *pathways: tuple[Float[Array, "B N d"], Float[Array, "N J"]]) -> Float[Array, "B N J"]:
        """Computes the logits of features, with a gradient reversal per pathway.

        The features' gradient is scaled, and that of the classifiers is not. Two products are written for
        this. XLA computes one forward, because they are the same. Backward, one gives the gradient of the
        classifiers and the other that of the features, for all pathways at once.

        Args:
          *pathways: pairs of the features and the scale of the reversed gradient at [feature j, value v].
            Several pathways have the same features, with different paths for their gradients.
        """
        shape = (pathways[0][0].shape[-1], self.schema.num_values)
        lead = (self.schema.num_attributes,) if self.pairwise else ()
        initializer = lecun_normal_batched if self.pairwise else nn.initializers.lecun_normal()
        kernel = self.param("kernel", initializer, (*lead, *shape))
        bias = None
        if self.cosine_scale is None:
            bias = self.param("bias", nn.initializers.zeros, (*lead, shape[1])).astype(self.dtype)
        else:
            kernel = self.cosine_scale * unit_with_safe_gradient(kernel.swapaxes(-1, -2)).swapaxes(-1, -2)
        kernel = kernel.astype(self.dtype)
        product = "bnd,ndj->bnj" if self.pairwise else "bnd,dj->bnj"
        stop = jax.lax.stop_gradient
        logits = jnp.einsum(product, stop(pathways[0][0]), kernel)
        if bias is not None:
            logits += bias
        for features, scale in pathways:
            through = reverse_gradient(jnp.einsum(product, features, stop(kernel)), scale)
            logits += through - stop(through)  # adds the features' gradient, and 0 to the values
        return logits
