"""A backbone that compiles in no time, for tests of what is built on a backbone."""

from typing import Any

import flax.linen as nn
import pytest

from gradrev_jax.models.backbones import BACKBONES, Backbone
from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.inputs import PixelInputs


class Toy(nn.Module):
    """A dense layer over the mean colour of an image, with the fields and arguments of any backbone."""

    tap: str
    width: float
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, images, train=False, shard=None):
        units = round(16 * self.width)
        colour = images.mean(axis=(1, 2)).astype(self.dtype)
        x = nn.Dense(units, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name="colour")(colour)
        x = x if self.tap == "dense" else nn.relu(x)
        return Dropout(self.dropout if train else 0.0)(x, shard)


@pytest.fixture(scope="module", autouse=True)
def toy_backbone():
    """The name of the toy backbone, which ``BACKBONES`` has during the tests of this folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "toy", Backbone(Toy, inputs=PixelInputs(2), taps=("dense", "dense_relu")))
        yield "toy"
