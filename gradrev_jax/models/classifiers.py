"""The classifiers of all attributes, which read every feature, with a gradient reversal per pathway."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.reversed_product import reversed_product
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
        return self((features, None))

    @nn.compact
    def __call__(
        self, *pathways: tuple[Float[Array, "B N d"], Float[Array, "N J"] | None]
    ) -> Float[Array, "B N J"]:
        """Computes the logits of features, with a gradient reversal per pathway.

        The features' gradient is scaled, and that of the classifiers is not, see ``reversed_product``.

        Args:
          *pathways: pairs of the features and the scale of the reversed gradient at [feature j, value v];
            None on the only pathway: no reversal. Several have the same features, with different paths for
            their gradients.
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
        features, scales = zip(*pathways, strict=True)
        if scales[0] is None:
            (only,) = features
            logits = jnp.einsum("bnd,ndj->bnj" if self.pairwise else "bnd,dj->bnj", only, kernel)
        else:
            logits = reversed_product(features, kernel, scales)
        return logits if bias is None else logits + bias
