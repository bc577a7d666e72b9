"""The attribute encoder: a backbone, one small MLP per attribute, and classifiers that read every feature."""

from typing import Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.gradient_reversal import reverse_gradient
from gradrev_jax.models.alexnet import AlexNet, Tap

Heads = Literal["shared"]
HEADS: tuple[Heads, ...] = get_args(Heads)

# One weight holds N matrices: the fan-in of each is its own, not N times it.
he_normal_batched = nn.initializers.he_normal(batch_axis=(0,))
lecun_normal_batched = nn.initializers.lecun_normal(batch_axis=(0,))


class EncoderOutput(NamedTuple):
    """What the encoder says of a batch.

    Attributes:
      features: [B, N, d], one feature per attribute.
      logits: [B, N, J]; ``logits[b, j, v]`` is what the classifiers say of value v, reading feature j.
    """

    features: Float[Array, "B N d"]
    logits: Float[Array, "B N J"]


class AttributeEncoder(nn.Module):
    """Backbone, N attribute MLPs and N classifiers; the adversarial pathways pass a gradient reversal.

    Every classifier reads every feature. Feature j read by its own classifier trains normally; read by any
    other, its gradient is reversed between feature and classifier, so that classifiers learn to predict
    and the MLPs and the backbone learn to prevent it.

    Attributes:
      schema: the attributes.
      feature_dim: d, width of one attribute's feature.
      heads: ``shared``, the paper's N classifiers: one weight [d, J] reads every feature.
      tap: where the backbone's features are taken, see ``AlexNet``.
      width: multiplies the backbone's filters and units.
      dropout: the backbone's rate.
      dtype: dtype of the computation; parameters are float32, and so are the outputs.

    Raises:
      ValueError: unknown heads or tap, images smaller than 63 pixels a side.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> encoder = AttributeEncoder(schema, feature_dim=8, width=0.125)
      >>> params = encoder.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
      >>> features, logits = encoder.apply(params, jnp.zeros((4, 64, 64, 3)))
      >>> features.shape, logits.shape
      ((4, 2, 8), (4, 2, 5))
    """

    schema: AttributeSchema
    feature_dim: int = 340
    heads: Heads = "shared"
    tap: Tap = "fc6_relu"
    width: float = 1.0
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "B S S 3"],
        train: bool = False,
        reversal_scale: float | Float[Array, ""] = 1.0,
    ) -> EncoderOutput:
        """Features and logits of a batch.

        Args:
          images: [B, S, S, 3], normalised.
          train: whether dropout is active (needs the ``dropout`` rng).
          reversal_scale: lambda of the reversal; the output's values do not depend on it.
        """
        if self.heads not in HEADS:
            raise ValueError(f"model.heads must be one of {', '.join(HEADS)}, got {self.heads!r}")
        n, d = self.schema.num_attributes, self.feature_dim
        x = AlexNet(self.tap, self.width, self.dropout, self.dtype, name="backbone")(images, train)
        hidden = nn.relu(AttributeLinear(n, d, he_normal_batched, self.dtype, name="mlp_hidden")(x))
        features = AttributeLinear(n, d, lecun_normal_batched, self.dtype, name="mlp_out")(hidden)
        classify = nn.Dense(self.schema.num_values, dtype=self.dtype, name="heads")
        own = classify(features)
        # The same numbers as `own`, which XLA computes once; only their gradients differ.
        adversarial = classify(reverse_gradient(features, reversal_scale))
        is_own = np.arange(n)[:, None] == self.schema.attribute_of
        logits = jnp.where(is_own, own, adversarial)
        return EncoderOutput(features.astype(jnp.float32), logits.astype(jnp.float32))


class AttributeLinear(nn.Module):
    """N linear layers as one batched weight [N, inputs, units].

    Attributes:
      num_attributes: N.
      units: output width of each.
      kernel_init: initializer of the weight.
      dtype: dtype of the computation.
    """

    num_attributes: int
    units: int
    kernel_init: nn.initializers.Initializer
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *N H"]) -> Float[Array, "B N d"]:
        """Apply layer n to ``x[:, n]``, or to ``x`` itself where all read the same [B, H]."""
        shape = (self.num_attributes, x.shape[-1], self.units)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.num_attributes, self.units))
        inputs = "bc" if x.ndim == 2 else "bnc"
        product = jnp.einsum(f"{inputs},ncd->bnd", x.astype(self.dtype), kernel.astype(self.dtype))
        return product + bias.astype(self.dtype)


def parameter_count(params: object) -> int:
    """Number of parameters in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
