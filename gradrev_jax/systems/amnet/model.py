"""AMNet's model: one feature for all attributes."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.models.backbones import find_backbone
from gradrev_jax.models.inputs import PixelInputs, VectorInputs
from gradrev_jax.models.interface import Encoder, EncoderOutput, FullOutput, as_output
from gradrev_jax.models.shards import BatchShard


class EntangledEncoder(Encoder):
    """A backbone, an MLP that gives one feature for all attributes, and N classifiers that read it.

    Attributes:
      schema: the attributes.
      feature_dim: the width of the feature, D.
      missing: as for ``Encoder``.
      frozen_statistics: as for ``Encoder``.
      backbone: the name of the backbone, one of ``BACKBONES``.
      tap: the layer of the backbone whose output the MLP reads; None: its usual one.
      width: the factor of the backbone's numbers of filters and units.
      dropout: the dropout rate of the backbone.
      dtype: the dtype of the computation; outputs are float32, unless it is wider.

    Example:
      >>> import jax
      >>> from gradrev_jax import AttributeSchema
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> encoder = EntangledEncoder(schema, feature_dim=8, backbone="embeddings")
      >>> params = encoder.init(jax.random.key(0), jnp.zeros((1, 16)))
      >>> features, logits = encoder.apply(params, jnp.zeros((4, 16)))
      >>> features.shape, logits.shape
      ((4, 1, 8), (4, 1, 5))
    """

    backbone: str = "alexnet"
    tap: str | None = None
    width: float = 1.0
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @property
    def blocks(self) -> FeatureBlocks:
        """One block, which all classifiers read."""
        return FeatureBlocks.shared(self.schema)

    @property
    def inputs(self) -> PixelInputs | VectorInputs:
        """The inputs that the backbone reads."""
        return find_backbone(self.backbone).inputs

    def setup(self) -> None:
        """Creates the parts."""
        backbone = find_backbone(self.backbone)
        tap = backbone.taps[0] if self.tap is None else self.tap
        network = backbone.build(tap, self.width, self.dropout, self.dtype)
        # The field ``backbone`` has the name of this part in the parameters.
        self.network = network.clone(parent=self, name="backbone")
        self.mlp_hidden = nn.Dense(
            self.feature_dim, dtype=self.dtype, kernel_init=nn.initializers.he_normal()
        )
        self.mlp_out = nn.Dense(self.feature_dim, dtype=self.dtype)
        self.heads = nn.Dense(self.classes.num_values, dtype=self.dtype)

    def __call__(
        self,
        images: Float[Array, "B S S 3"] | Float[Array, "B D"],
        train: bool = False,
        *,
        shard: BatchShard | None = None,
    ) -> EncoderOutput:
        """Computes the feature and logits of a batch; see ``Encoder``."""
        self.inputs.check(images)
        _, features, logits = self._outputs(self.network(images, train, shard))
        return EncoderOutput(features, logits)

    def full_output(self, images: Float[Array, "B S S 3"] | Float[Array, "B D"]) -> FullOutput:
        """Computes the backbone's output, the feature and the logits of a batch; see ``Encoder``."""
        self.inputs.check(images)
        return self._outputs(self.network(images, False, None))

    def classify(self, features: Float[Array, "B 1 d"]) -> Float[Array, "B 1 J"]:
        """Computes the logits of given features, for example edited ones."""
        return as_output(self.heads(features.astype(self.dtype)))

    def _outputs(self, embedding: Float[Array, "B H"]) -> FullOutput:
        features = self.mlp_out(nn.relu(self.mlp_hidden(embedding)))[:, None]
        return FullOutput(*map(as_output, (embedding, features, self.heads(features))))
