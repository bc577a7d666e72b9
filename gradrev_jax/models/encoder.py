"""The attribute encoder: a backbone, one small MLP per attribute, and classifiers that read every feature."""

from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.core.vectors import unit_with_safe_gradient
from gradrev_jax.models.attribute_linear import AttributeLinear, he_normal_batched, lecun_normal_batched
from gradrev_jax.models.backbones import find_backbone
from gradrev_jax.models.classifiers import Classifiers
from gradrev_jax.models.inputs import PixelInputs, VectorInputs
from gradrev_jax.models.interface import Encoder, EncoderOutput, FullOutput, as_output
from gradrev_jax.models.shards import BatchShard

Heads = Literal["shared", "pairwise"]
HEADS: tuple[Heads, ...] = get_args(Heads)
Reach = Literal["backbone", "mlp"]
REACHES: tuple[Reach, ...] = get_args(Reach)


class AttributeEncoder(Encoder):
    """A backbone, N attribute MLPs and N classifiers, with gradient reversal on the adversarial pathways.

    Every classifier reads every feature. The gradient from a classifier to the feature of its own attribute
    is unchanged. To all other features it is reversed: the classifier learns to predict its attribute, while
    the MLPs and the backbone learn to prevent it.

    Attributes:
      schema: the attributes.
      feature_dim: the width of one attribute's feature, d.
      heads: ``shared`` for the paper's N classifiers, where one weight [d, J] reads every feature;
        ``pairwise`` for its N x N classifiers, where each feature has a weight of its own, [N, d, J].
      tap: the layer of the backbone whose output the MLPs read, one of ``BACKBONES``; None: its usual
        one, ``fc6_relu`` for AlexNet.
      width: the factor of the backbone's numbers of filters and units.
      dropout: the dropout rate of the backbone.
      reach: how far the reversed gradient flows back: ``mlp``, through the attribute MLPs alone, or
        ``backbone``, through the backbone, too.
      dtype: the dtype of the computation; parameters are float32, and so are the outputs unless it is wider.
      backbone: the name of the backbone in ``gradrev_jax.models.backbones.BACKBONES``.
      frozen_statistics: whether the backbone's batch normalisation keeps the statistics that it has, as is
        usual from pretrained weights; otherwise training uses those of each batch, and averages them.
      missing: whether missing labels are ignored, or the ``value`` of a class of their own.
      unit_features: whether features have length 1 and logits are cosines between features and classifiers,
        times ``logit_scale``; not of the paper.
      logit_scale: the logit of a cosine of 1, where features have length 1.

    Raises:
      ValueError: ``backbone``, ``tap``, ``heads``, ``reach`` or ``missing`` is unknown; the inputs are not a
        batch, or too small for the backbone; or ``reversal_scale`` has another shape.

    Example:
      >>> from gradrev_jax import AttributeSchema
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> encoder = AttributeEncoder(schema, feature_dim=8, width=0.125)
      >>> params = encoder.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
      >>> features, logits = encoder.apply(params, jnp.zeros((4, 64, 64, 3)))
      >>> features.shape, logits.shape
      ((4, 2, 8), (4, 2, 5))
    """

    heads: Heads = "shared"
    tap: str | None = None
    width: float = 1.0
    dropout: float = 0.5
    reach: Reach = "backbone"
    dtype: DTypeLike = jnp.float32
    backbone: str = "alexnet"
    unit_features: bool = False
    logit_scale: float = 20.0

    @property
    def inputs(self) -> PixelInputs | VectorInputs:
        """The inputs that the backbone reads."""
        return find_backbone(self.backbone).inputs

    @property
    def cosine_scale(self) -> float | None:
        """The factor from cosines to logits; None: logits are not computed from cosines."""
        return self.logit_scale if self.unit_features else None

    def setup(self) -> None:
        """Creates the parts."""
        backbone = find_backbone(self.backbone)
        tap = backbone.taps[0] if self.tap is None else self.tap
        chosen = ("heads", HEADS, self.heads), ("reach", REACHES, self.reach), ("tap", backbone.taps, tap)
        for field, names, value in chosen:
            if value not in names:
                raise ValueError(f"{field} must be one of {', '.join(names)}, got {value!r}")
        n, d = self.schema.num_attributes, self.feature_dim
        # In the parameters these two parts are called "backbone" and "heads", as two fields are here.
        network = backbone.build(tap, self.width, self.dropout, self.dtype)
        self.network = network.clone(parent=self, name="backbone")
        self.mlp_hidden = AttributeLinear(n, d, he_normal_batched, self.dtype)
        self.mlp_out = AttributeLinear(n, d, lecun_normal_batched, self.dtype)
        self.classifiers = Classifiers(
            self.classes, self.heads == "pairwise", self.dtype, self.cosine_scale, name="heads"
        )

    def __call__(
        self,
        images: Float[Array, "B S S 3"] | Float[Array, "B D"],
        train: bool = False,
        reversal_scale: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, "N N"] = 1.0,
        shard: BatchShard | None = None,
    ) -> EncoderOutput:
        """Computes the features and logits of a batch.

        Args:
          images: normalised images, [B, S, S, 3]; for the backbone ``embeddings``, vectors, [B, D].
          train: whether dropout is active; it needs the ``dropout`` rng.
          reversal_scale: the scale of the reversed gradient, lambda: one for all pathways or [N, N] with one
            per pathway, where row j is the feature and column n the classifier. The diagonal is ignored.
            The values of the output do not depend on it.
          shard: the part of a batch that the images are, for dropout and batch normalisation; None: the
            whole batch.
        """
        self.inputs.check(images)
        x = self.network(images, train, shard)
        features = self._mlps(x)
        logits = self._logits(x, features, reversal_scale)
        return EncoderOutput(as_output(features), as_output(logits))

    def full_output(self, images: Float[Array, "B S S 3"] | Float[Array, "B D"]) -> FullOutput:
        """Computes the backbone's output, the features and the logits of a batch, without dropout.

        Args:
          images: the inputs, as for a call.
        """
        self.inputs.check(images)
        embedding = self.network(images, False, None)
        features = self._mlps(embedding)
        logits = self._logits(embedding, features, 1.0)
        return FullOutput(*map(as_output, (embedding, features, logits)))

    def classify(self, features: Float[Array, "B N d"]) -> Float[Array, "B N J"]:
        """Computes the logits of given features, for example manipulated ones, without gradient reversal.

        Args:
          features: the features, [B, N, d], of any length.

        Raises:
          ValueError: the features have another shape.
        """
        self.check_features(features)
        return as_output(self.classifiers.without_reversal(self._as_read(features)))

    def _mlps(self, x: Float[Array, "B H"]) -> Float[Array, "B N d"]:
        return self._as_read(self.mlp_out(nn.relu(self.mlp_hidden(x))))

    def _as_read(self, features: Float[Array, "B N d"]) -> Float[Array, "B N d"]:
        """Returns features as the classifiers read them: of length 1 if so set, in ``dtype``."""
        if self.unit_features:  # lengths are computed in float32, whatever the dtype
            features = unit_with_safe_gradient(as_output(features))
        return features.astype(self.dtype)

    def _logits(
        self,
        x: Float[Array, "B H"],
        features: Float[Array, "B N d"],
        reversal_scale: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, "N N"],
    ) -> Float[Array, "B N J"]:
        """Computes the logits of ``features``, which are the MLPs' outputs for ``x``."""
        n, attribute_of = self.schema.num_attributes, self.classes.attribute_of
        is_own = np.arange(n)[:, None] == attribute_of
        scale = jnp.asarray(reversal_scale, jnp.promote_types(self.dtype, jnp.float32))
        # JAX would silently clamp indices beyond the end of a smaller array.
        if scale.shape not in ((), (n, n)):
            raise ValueError(f"reversal_scale must be one number or [{n}, {n}], got {scale.shape}")
        adversarial = scale[:, attribute_of] if scale.ndim else scale
        if self.reach == "backbone":
            pathways = [(features, jnp.where(is_own, -1.0, adversarial))]
        else:  # the same features twice, one with gradients that stop before the backbone; XLA merges both
            stopped = self._mlps(jax.lax.stop_gradient(x))
            own, others = jnp.where(is_own, -1.0, 0.0), jnp.where(is_own, 0.0, adversarial)
            pathways = [(features, own), (stopped, others)]
        return self.classifiers(*pathways)
