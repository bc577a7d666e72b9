"""A learned edit: the features of an image are tokens, which two small Transformers change.

After the abstract of "Garment Attribute Manipulation with Multi-level Attention" (GAMMA, Casula et al., 2024,
arXiv 2409.10206): two Transformers and a memory on disentangled features. The layers are our own.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.models.attribute_linear import AttributeLinear, lecun_normal_batched

HIDDEN = 2  # hidden units of a block's MLP, as a multiple of its width


class TokenBlock(nn.Module):
    """Attention and an MLP, each after a layer normalisation, and each added to the tokens.

    Attributes:
      heads: the number of heads of the attention.
      dtype: the dtype of the computation.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B N w"],
        others: Float[Array, "B P w"] | None = None,
        present: Bool[Array, "B P"] | None = None,
    ) -> Float[Array, "B N w"]:
        """Computes the next tokens.

        Args:
          tokens: the tokens, [B, N, w].
          others: the tokens that they attend to, [B, P, w]; None: themselves.
          present: whether each of the others is there; None: all are.
        """
        width = tokens.shape[-1]
        read = nn.LayerNorm(dtype=self.dtype, name="tokens_norm")(tokens)
        seen = read if others is None else nn.LayerNorm(dtype=self.dtype, name="others_norm")(others)
        attention = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype, name="attention")
        tokens = tokens + attention(read, seen, mask=None if present is None else present[:, None, None, :])
        read = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(tokens)
        hidden = nn.gelu(nn.Dense(HIDDEN * width, dtype=self.dtype, name="mlp_hidden")(read))
        return tokens + nn.Dense(width, dtype=self.dtype, name="mlp_out")(hidden)


class TokenEditor(nn.Module):
    r"""The edit of the memory (Eq. 7), and what two Transformers add to it.

    .. math::
        f' = f + \sum_v i_v \, \mathrm{memory}[v] + s \, r \, \Delta(f / r, i / s, \mathrm{memory} / r)

    s is the largest :math:`|i_v|`, and r the size of each attribute's prototypes. Token n is a linear map of
    f_n, plus an embedding of each value of attribute n that is added or removed. The first Transformer lets
    tokens attend to each other, the second to the prototypes of these values. A linear map of each token,
    which is 0 before the first step, is the addition to its attribute's feature.

    So an editor that has not been trained edits by Eq. 7; no change leaves features exactly as they are; an
    indicator times a strength moves them that many times as far; and features and memory of another unit
    give edited features of that unit.

    Attributes:
      schema: the attributes.
      width: the width of the tokens, w, a multiple of `heads`.
      heads: the number of heads of each attention.
      layers: the number of blocks of each Transformer.
      dtype: the dtype of the Transformers; parameters are float32.

    Raises:
      ValueError: `width` is no multiple of `heads`, or the arguments of a call disagree.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> features, memory = jnp.ones((4, 2, 8)), jnp.ones((5, 2, 8))
      >>> indicators = jnp.tile(jnp.array([-1, 1, 0, 0, 0]), (4, 1))
      >>> start = jax.jit(TokenEditor(schema, layers=1).init_with_output)
      >>> edited, params = start(jax.random.key(0), features, indicators, memory)
      >>> edited.shape
      (4, 2, 8)
    """

    schema: AttributeSchema
    width: int = 128
    heads: int = 4
    layers: int = 2
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B N d"],
        indicators: Float[Array | np.ndarray, "B J"] | Int[Array | np.ndarray, "B J"],
        memory: Float[Array, "J N d"],
    ) -> Float[Array, "B N d"]:
        """Computes the edited features, in the features' dtype.

        Args:
          features: the features, [B, N, d].
          indicators: [B, J]; +1 adds a value, -1 removes it, 0 leaves it; or a multiple of that.
          memory: the prototypes, [J, N, d]. The Transformers read each value's own block.
        """
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        edited = manipulate(features, indicators, memory)
        indicators = jnp.asarray(indicators, features.dtype)
        strength = jnp.abs(indicators).max(axis=-1, keepdims=True)
        changes = indicators / jnp.where(strength > 0, strength, 1)
        own = memory[jnp.arange(self.schema.num_values), self.schema.attribute_of]
        sizes = self._sizes(own)
        prototypes = own / sizes[self.schema.attribute_of]
        residual = self._residual(features / sizes, changes, prototypes.astype(features.dtype))
        return edited + (residual * sizes * strength[:, :, None]).astype(features.dtype)

    def _residual(
        self,
        features: Float[Array, "B N d"],
        changes: Float[Array, "B J"],
        prototypes: Float[Array, "J d"],
    ) -> Float[Array, "B N d"]:
        """Computes the residual that is added to features, from features and prototypes of size 1."""
        n, width = self.schema.num_attributes, self.width
        signed = jnp.stack([changes, -changes]).clip(0)  # [2, B, J]: what is added, and what is removed
        # A standard deviation of 1: as large as the numbers of the tokens that they are added to.
        values = self.param("values", nn.initializers.normal(1.0), (2, self.schema.num_values, width))
        embedded = [self._by_attribute(signed[k], values[k]) for k in range(2)]
        read = AttributeLinear(n, width, lecun_normal_batched, self.dtype, name="features")
        tokens = read(features) + (embedded[0] + embedded[1]).astype(self.dtype)
        for k in range(self.layers):
            tokens = TokenBlock(self.heads, self.dtype, name=f"change_{k}")(tokens)

        read = AttributeLinear(n, width, lecun_normal_batched, self.dtype, name="prototypes")
        concerned = [read(self._by_attribute(weights, prototypes)) for weights in signed]
        others = jnp.concatenate(concerned, axis=1) + jnp.concatenate(embedded, axis=1).astype(self.dtype)
        present = jnp.concatenate([weights @ self.schema.membership > 0 for weights in signed], axis=1)
        for k in range(self.layers):
            tokens = TokenBlock(self.heads, self.dtype, name=f"memory_{k}")(tokens, others, present)

        tokens = nn.LayerNorm(dtype=self.dtype, name="norm")(tokens)
        zeros = nn.initializers.zeros
        return AttributeLinear(n, features.shape[-1], zeros, self.dtype, name="edit")(tokens)

    def _by_attribute(
        self, weights: Float[Array, "B J"], table: Float[Array, "J w"]
    ) -> Float[Array, "B N w"]:
        """Sums the rows of a table, times weights, over the values of each attribute."""
        return jnp.einsum("bv,vn,vw->bnw", weights, self.schema.membership, table)

    def _sizes(self, own: Float[Array, "J d"]) -> Float[Array, "N 1"]:
        """Returns the root mean square of each attribute's prototypes, a constant; 1 where they are zero."""
        squares = jax.lax.stop_gradient(own**2).mean(axis=-1)
        means = (self.schema.membership.T @ squares) / np.asarray(self.schema.sizes)
        return jnp.where(means > 0, jnp.sqrt(means), 1)[:, None]
