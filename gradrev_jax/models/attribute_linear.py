"""Linear layers of all attributes in one parameter."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# One parameter holds N matrices; the fan-in of each is that of a single matrix, not N times as large.
he_normal_batched = nn.initializers.he_normal(batch_axis=(0,))
lecun_normal_batched = nn.initializers.lecun_normal(batch_axis=(0,))


class AttributeLinear(nn.Module):
    """N linear layers with one batched weight [N, inputs, units].

    Attributes:
      num_attributes: the number of layers, N.
      units: the output width of each layer.
      kernel_init: the initializer of the weight.
      dtype: the dtype of the computation.
    """

    num_attributes: int
    units: int
    kernel_init: nn.initializers.Initializer
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *N H"]) -> Float[Array, "B N d"]:
        """Applies layer n to ``x[:, n]``, or all layers to the same ``x`` [B, H]."""
        shape = (self.num_attributes, x.shape[-1], self.units)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.num_attributes, self.units))
        x, inputs = x.astype(self.dtype), "bnc"
        if x.ndim == 2:  # so that the layers are a batch; as one wide layer XLA would transpose the weight
            x, inputs = jnp.broadcast_to(x, (self.num_attributes, *x.shape)), "nbc"
        product = jnp.einsum(f"{inputs},ncd->bnd", x, kernel.astype(self.dtype))
        return product + bias.astype(self.dtype)
