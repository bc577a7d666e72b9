"""The attribute encoder: a backbone, one small MLP per attribute, and classifiers that read every feature."""

from typing import Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.gradient_reversal import reverse_gradient
from gradrev_jax.models.alexnet import AlexNet, Tap
from gradrev_jax.models.shards import BatchShard

Heads = Literal["shared", "pairwise"]
HEADS: tuple[Heads, ...] = get_args(Heads)
Reach = Literal["backbone", "mlp"]
REACHES: tuple[Reach, ...] = get_args(Reach)

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
      heads: ``shared``, the paper's N classifiers: one weight [d, J] reads every feature. ``pairwise``, its
        N x N: a weight of its own for each feature, [N, d, J].
      tap: where the backbone's features are taken, see ``AlexNet``.
      width: multiplies the backbone's filters and units.
      dropout: the backbone's rate.
      reach: how far the reversed gradient goes, through the MLPs into the ``backbone``, or no further than
        the ``mlp``.
      dtype: dtype of the computation; parameters are float32, and so are the outputs, unless it is wider.

    Raises:
      ValueError: unknown heads, reach or tap, images that are no batch or smaller than 63 pixels a side, a
        reversal_scale of another shape.

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
    reach: Reach = "backbone"
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Name the parts."""
        if self.heads not in HEADS:
            raise ValueError(f"model.heads must be one of {', '.join(HEADS)}, got {self.heads!r}")
        if self.reach not in REACHES:
            raise ValueError(f"reversal.reach must be one of {', '.join(REACHES)}, got {self.reach!r}")
        n, d = self.schema.num_attributes, self.feature_dim
        self.backbone = AlexNet(self.tap, self.width, self.dropout, self.dtype)
        self.mlp_hidden = AttributeLinear(n, d, he_normal_batched, self.dtype)
        self.mlp_out = AttributeLinear(n, d, lecun_normal_batched, self.dtype)
        self.classifiers = Classifiers(self.schema, self.heads == "pairwise", self.dtype, name="heads")

    def __call__(
        self,
        images: Float[Array, "B S S 3"],
        train: bool = False,
        reversal_scale: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, "N N"] = 1.0,
        shard: BatchShard | None = None,
    ) -> EncoderOutput:
        """Features and logits of a batch.

        Args:
          images: [B, S, S, 3], normalised.
          train: whether dropout is active (needs the ``dropout`` rng).
          reversal_scale: lambda of the reversal, one for all pathways or one for each: row j is the feature,
            column n the classifier, and the diagonal is not looked at. The output's values do not depend
            on it.
          shard: which part of a batch the images are, for dropout; None: all of it.
        """
        x = self.backbone(images, train, shard)
        features = self._mlps(x)
        logits = self._logits(x, features, reversal_scale)
        return EncoderOutput(self._out(features), self._out(logits))

    def classify(self, features: Float[Array, "B N d"]) -> Float[Array, "B N J"]:
        """Logits of features that come from elsewhere, as manipulated ones; no gradient is reversed.

        Raises:
          ValueError: features of another shape.
        """
        n, d = self.schema.num_attributes, self.feature_dim
        if features.ndim != 3 or features.shape[1:] != (n, d):
            raise ValueError(f"features must be [B, {n}, {d}], got {features.shape}")
        scale = jnp.full((self.schema.num_attributes, self.schema.num_values), -1.0)
        return self._out(self.classifiers((features.astype(self.dtype), scale)))

    def _out(self, x: Array) -> Array:
        return x.astype(jnp.promote_types(self.dtype, jnp.float32))

    def _mlps(self, x: Float[Array, "B H"]) -> Float[Array, "B N d"]:
        return self.mlp_out(nn.relu(self.mlp_hidden(x)))

    def _logits(
        self,
        x: Float[Array, "B H"],
        features: Float[Array, "B N d"],
        reversal_scale: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, "N N"],
    ) -> Float[Array, "B N J"]:
        """Logits of ``features``, the MLPs' of ``x``."""
        is_own = np.arange(self.schema.num_attributes)[:, None] == self.schema.attribute_of
        scale = jnp.asarray(reversal_scale, jnp.float32)
        # A shorter array would be read past its end, which JAX does without a word.
        if scale.shape not in ((), (self.schema.num_attributes,) * 2):
            n = self.schema.num_attributes
            raise ValueError(f"reversal_scale must be one number or [{n}, {n}], got {scale.shape}")
        adversarial = scale[:, self.schema.attribute_of] if scale.ndim else scale
        if self.reach == "backbone":
            pathways = [(features, jnp.where(is_own, -1.0, adversarial))]
        else:  # the same features twice, which XLA computes once; only their gradients differ
            stopped = self._mlps(jax.lax.stop_gradient(x))
            own, others = jnp.where(is_own, -1.0, 0.0), jnp.where(is_own, 0.0, adversarial)
            pathways = [(features, own), (stopped, others)]
        return self.classifiers(*pathways)


class Classifiers(nn.Module):
    """One linear classifier an attribute, reading every feature: a single product, whatever N is.

    Attributes:
      schema: the attributes.
      pairwise: whether each feature is read by classifiers of its own.
      dtype: dtype of the computation.
    """

    schema: AttributeSchema
    pairwise: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, *pathways: tuple[Float[Array, "B N d"], Float[Array, "N J"]]) -> Float[Array, "B N J"]:
        """Logits of features, with a reversal of its own for each pathway.

        Args:
          *pathways: (features, scale of the reversal at [feature j, value v]); where there are several, all
            have the same features, of which the gradients take different ways.

        The classifiers' gradient is never scaled, that of the features is. Written as two products it needs
        one each way: forward they are the same, and backward one gives the classifiers' gradient and the
        other the features', of all pathways at once.
        """
        shape = (pathways[0][0].shape[-1], self.schema.num_values)
        lead = (self.schema.num_attributes,) if self.pairwise else ()
        initializer = lecun_normal_batched if self.pairwise else nn.initializers.lecun_normal()
        kernel = self.param("kernel", initializer, (*lead, *shape)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (*lead, shape[1])).astype(self.dtype)
        product = "bnd,ndj->bnj" if self.pairwise else "bnd,dj->bnj"
        stop = jax.lax.stop_gradient
        logits = jnp.einsum(product, stop(pathways[0][0]), kernel) + bias
        for features, scale in pathways:
            through = reverse_gradient(jnp.einsum(product, features, stop(kernel)), scale)
            logits += through - stop(through)  # adds 0, and the features' gradient
        return logits


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
