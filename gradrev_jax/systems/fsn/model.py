"""FashionSearchNet: a region of the image per attribute, and a branch that reads it (Ak et al., 2018)."""

from typing import Literal, NamedTuple, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attention_boxes import attention_boxes, crop_and_resample
from gradrev_jax.models.alexnet import SMALLEST_IMAGE_OF_MAPS, AlexNetMaps, scaled
from gradrev_jax.models.attribute_linear import AttributeLinear, he_normal_batched, lecun_normal_batched
from gradrev_jax.models.classifiers import Classifiers
from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.models.interface import Encoder, EncoderOutput, FullOutput, as_output
from gradrev_jax.models.regions import Regions
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.systems.fsn.localization import Localization, Seen

Weights = Literal["learned", "equal"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
HIDDEN = 1024  # units of a branch's hidden layers, at full width


class LocalizedOutput(NamedTuple):
    """The output of FashionSearchNet for a batch, with the logits that its boxes come from.

    Attributes:
      features: the features, one per attribute, [B, N, d].
      logits: the logits of the branches' classifiers, [B, N, J], see ``EncoderOutput``.
      localization: the logits of the localising classifiers, [B, J].
    """

    features: Float[Array, "B N d"]
    logits: Float[Array, "B N J"]
    localization: Float[Array, "B J"]


class Branches(nn.Module):
    """Three layers per attribute, each with one batched weight.

    Attributes:
      num_attributes: the number of branches, N.
      hidden: the number of units of the first two layers.
      units: the width of a feature, d.
      dropout: the dropout rate before the second and the third layer.
      dtype: the dtype of the computation.
    """

    num_attributes: int
    hidden: int
    units: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N H"], train: bool, shard: BatchShard | None
    ) -> Float[Array, "B N d"]:
        """Computes the features of the attributes, each from its own input."""
        for name in ("first", "second"):
            x = nn.relu(self._layer(name, self.hidden, he_normal_batched)(x))
            # Flattened, because the mask of a batch has a row per image.
            x = Dropout(self.dropout if train else 0.0)(x.reshape(len(x), -1), shard).reshape(x.shape)
        return self._layer("third", self.units, lecun_normal_batched)(x)

    def _layer(self, name: str, units: int, initializer: nn.initializers.Initializer) -> AttributeLinear:
        return AttributeLinear(self.num_attributes, units, initializer, self.dtype, name=name)


class FashionSearchNet(Encoder):
    """AlexNet's convolutions, a box per attribute in their map, and N branches that read the boxes.

    Two more convolutions, and the mean of their map over the image, lead to one classifier per attribute. The
    weights of the value that it predicts give an activation map, and that map a box. What the fifth
    convolution has inside the box goes through three layers of the attribute's branch to its feature. The
    attribute's feature is multiplied by a weight, so that the concatenation of all features is the weighted
    one that retrieval compares. docs/method.md has what the papers leave open.

    There is no gradient reversal: of the logits [B, N, J], those of a feature's own attribute are the ones to
    train.

    Attributes:
      width: the factor of the numbers of filters, and of units of the branches' hidden layers.
      dropout: the dropout rate before the second and the third layer of each branch.
      dtype: the dtype of the computation; parameters are float32, and so are the outputs unless it is wider.
      threshold: the fraction of a map's maximum that cells of its box are above.
      grid: the number of rows, and of columns, of the grid that a box is resampled to.
      hidden: the number of units of a branch's first two layers, at full width.
      weights: whether the attributes' weights in the whole feature are ``learned``, or ``equal``.

    Raises:
      ValueError: ``missing`` or ``weights`` is unknown, the threshold is not in [0, 1), the grid has no cell,
        or the inputs are not a batch of normalised images of at least 31 x 31 pixels.

    Example:
      >>> import jax
      >>> from gradrev_jax import AttributeSchema
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> encoder = FashionSearchNet(schema, feature_dim=8, width=1 / 32)
      >>> images = jnp.zeros((4, 64, 64, 3))
      >>> features, logits = jax.eval_shape(encoder.init_with_output, jax.random.key(0), images)[0]
      >>> features.shape, logits.shape
      ((4, 2, 8), (4, 2, 5))
    """

    width: float = 1.0
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32
    threshold: float = 0.2
    grid: int = 3
    hidden: int = HIDDEN
    weights: Weights = "learned"

    @property
    def inputs(self) -> PixelInputs:
        """The inputs that the convolutions read."""
        return PixelInputs(SMALLEST_IMAGE_OF_MAPS)

    def setup(self) -> None:
        """Creates the parts."""
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {self.weights!r}")
        n, hidden = self.schema.num_attributes, scaled(self.hidden, self.width)
        self.backbone = AlexNetMaps(self.width, self.dtype)
        self.localization = Localization(self.classes, self.width, self.dtype)
        self.branches = Branches(n, hidden, self.feature_dim, self.dropout, self.dtype)
        self.heads = Classifiers(self.classes, False, self.dtype)
        if self.weights == "learned":
            self.log_weights = self.param("log_weights", nn.initializers.zeros, (n,))

    def __call__(
        self,
        images: Float[Array, "B S S 3"],
        train: bool = False,
        *,
        shard: BatchShard | None = None,
    ) -> EncoderOutput:
        """Computes the features and logits of a batch.

        Args:
          images: normalised images, [B, S, S, 3].
          train: whether dropout is active; it needs the ``dropout`` rng.
          shard: the part of a batch that the images are, for dropout; None: the whole batch.
        """
        features, logits, _ = self.localized(images, train, shard)
        return EncoderOutput(features, logits)

    def localized(
        self, images: Float[Array, "B S S 3"], train: bool = False, shard: BatchShard | None = None
    ) -> LocalizedOutput:
        """Computes the features and both kinds of logits of a batch.

        Args:
          images: normalised images, [B, S, S, 3].
          train: whether dropout is active; it needs the ``dropout`` rng.
          shard: the part of a batch that the images are, for dropout; None: the whole batch.
        """
        maps = self.backbone(images)
        seen = self.localization(maps)
        features = self._features(maps, seen, train, shard)
        return LocalizedOutput(*map(as_output, (features, self._logits(features), seen.logits)))

    def regions(self, images: Float[Array, "B S S 3"]) -> Regions:
        """Computes where each attribute is read in a batch, without dropout.

        Args:
          images: normalised images, [B, S, S, 3].
        """
        seen = self.localization(self.backbone(images))
        return Regions(as_output(seen.logits), seen.predicted, as_output(seen.maps), self._boxes(seen))

    def full_output(self, images: Float[Array, "B S S 3"]) -> FullOutput:
        """Computes the mean of the last convolution's map, as the embedding, the features and the logits.

        Args:
          images: normalised images, [B, S, S, 3].
        """
        maps = self.backbone(images)
        seen = self.localization(maps)
        features = self._features(maps, seen, False, None)
        return FullOutput(*map(as_output, (seen.mean, features, self._logits(features))))

    def classify(self, features: Float[Array, "B N d"]) -> Float[Array, "B N J"]:
        """Computes the logits of given features, for example manipulated ones.

        Args:
          features: the features, [B, N, d].

        Raises:
          ValueError: the features have another shape.
        """
        self.check_features(features)
        return as_output(self._logits(features.astype(self.dtype)))

    def attribute_weights(self) -> Float[Array, " N"]:
        """Returns the weight of each attribute's feature in the whole feature, which is positive."""
        if self.weights == "equal":
            return jnp.ones(self.schema.num_attributes)
        return jnp.exp(self.log_weights)

    def _boxes(self, seen: Seen) -> Int[Array, "B N 4"]:
        return attention_boxes(seen.maps, threshold=self.threshold)

    def _features(
        self, maps: Float[Array, "B h w C"], seen: Seen, train: bool, shard: BatchShard | None
    ) -> Float[Array, "B N d"]:
        crops = crop_and_resample(maps, self._boxes(seen), size=self.grid)
        features = self.branches(crops.reshape(*crops.shape[:2], -1), train, shard)
        if self.weights == "equal":
            return features
        return features * self.attribute_weights()[:, None].astype(self.dtype)

    def _logits(self, features: Float[Array, "B N d"]) -> Float[Array, "B N J"]:
        return self.heads.without_reversal(features)
