"""FashionSearchNet against a sketch of it in PyTorch, where torch is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from gradrev_jax.core.loss_terms import TermInputs, attribute_triplets, label_triplets
from gradrev_jax.core.losses import classification_loss
from gradrev_jax.systems.fsn.model import FashionSearchNet
from tests.parity.comparing import TOLERANCES, relative_difference
from tests.parity.ours import make_schema

torch = pytest.importorskip("torch")
functional = torch.nn.functional

SIZES = (4, 2, 3)
BATCH, PIXELS, WIDTH, FEATURE_DIM = 16, 111, 1 / 16, 6  # maps of 6 x 6 cells
GRID = 6  # no box is larger, so that bilinear sampling is all that resampling is


def box_of(grid):
    """The box of the largest region of cells above a fifth of the maximum, by SciPy's labels."""
    regions, count = ndimage.label(grid > 0.2 * grid.max(), structure=np.ones((3, 3)))
    if not count:
        return 0, 0, *grid.shape
    largest = 1 + np.argmax(ndimage.sum_labels(np.ones_like(grid), regions, range(1, count + 1)))
    rows, columns = ndimage.find_objects(regions)[largest - 1]
    return rows.start, columns.start, rows.stop, columns.stop


def sampled(image, box):
    """What one image [C, h, w] shows inside a box: [GRID, GRID, C], by torch's sampling grid."""
    height, width = image.shape[1:]
    ticks = (torch.arange(GRID) + 0.5) / GRID
    rows = (box[0] + ticks * (box[2] - box[0])) * 2 / height - 1
    columns = (box[1] + ticks * (box[3] - box[1])) * 2 / width - 1
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    grid = torch.stack([x, y], dim=-1)[None]
    crop = functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
    return crop[0].permute(1, 2, 0)


def in_torch(params, images, labels):
    """The features, both kinds of logits, and the loss, one attribute at a time."""

    def convolution(x, layer, **settings):
        return functional.relu(
            functional.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer["bias"], **settings)
        )

    layers, x = params["backbone"], images.permute(0, 3, 1, 2)
    x = functional.max_pool2d(convolution(x, layers["conv1"], stride=4, padding=2), 3, 2)
    x = functional.max_pool2d(convolution(x, layers["conv2"], padding=2), 3, 2)
    for name in ("conv3", "conv4", "conv5"):
        x = convolution(x, layers[name], padding=1)
    conv5 = x
    seen = params["localization"]
    conv7 = convolution(convolution(x, seen["conv6"], padding=1), seen["conv7"], padding=1)
    localization = functional.linear(conv7.mean(dim=(2, 3)), seen["kernel"].T, seen["bias"])
    features, logits, boxes, start = [], [], [], 0
    for n, size in enumerate(SIZES):
        part = slice(start, start + size)
        predicted = start + localization[:, part].argmax(dim=1)
        maps = torch.einsum("bchw,cb->bhw", conv7, seen["kernel"][:, predicted]).detach().numpy()
        boxes.append([box_of(grid) for grid in maps])
        crops = torch.stack([sampled(image, box) for image, box in zip(conv5, boxes[-1], strict=True)])
        x = crops.reshape(len(crops), -1)
        for name in ("first", "second", "third"):
            layer = params["branches"][name]
            x = functional.linear(x, layer["kernel"][n].T, layer["bias"][n])
            x = x if name == "third" else functional.relu(x)
        features.append(x * params["log_weights"][n].exp())
        heads = params["heads"]
        logits.append(functional.linear(features[-1], heads["kernel"][:, part].T, heads["bias"][part]))
        start += size
    return features, logits, localization, boxes, loss_in_torch(features, logits, localization, labels)


def loss_in_torch(features, logits, localization, labels):
    from benchmarks.torch_reference import losses

    whole = functional.normalize(torch.cat(features, dim=1))
    return (
        losses.classification_loss(logits, labels)
        + losses.classification_loss(localization.split(SIZES, dim=1), labels)
        + losses.attribute_triplet_loss(features, labels)
        + losses.semi_hard_triplet_loss(whole, labels)
    )


def test_features_logits_losses_and_gradients(rng):
    schema = make_schema(SIZES)
    encoder = FashionSearchNet(schema, feature_dim=FEATURE_DIM, width=WIDTH, dropout=0.0, grid=GRID)
    images = rng.normal(size=(BATCH, PIXELS, PIXELS, 3)).astype(np.float32)
    labels = np.stack([rng.integers(-1, size, BATCH) for size in SIZES], axis=1)
    labels[BATCH // 2 :] = labels[: BATCH // 2]  # so that whole rows of labels have pairs
    params = jax.jit(encoder.init)(jax.random.key(0), jnp.asarray(images))
    params = jax.tree.map(lambda leaf: leaf + 0.05 * rng.normal(size=leaf.shape).astype(np.float32), params)

    def loss(params):
        output = encoder.apply(params, jnp.asarray(images), train=True, method="localized")
        terms = TermInputs(output.features, output.logits, jnp.asarray(labels), schema, 0.5)
        localization = jnp.broadcast_to(output.localization[:, None], output.logits.shape)
        total = (
            classification_loss(output.logits, labels, schema)
            + classification_loss(localization, labels, schema)
            + attribute_triplets(terms)
            + label_triplets(terms)
        )
        return total, output

    (found, output), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    regions = jax.jit(lambda params: encoder.apply(params, jnp.asarray(images), method="regions"))(params)

    leaves = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)).requires_grad_(), params["params"])
    features, logits, localization, boxes, expected = in_torch(
        leaves, torch.tensor(images), torch.tensor(labels)
    )
    expected.backward()
    np.testing.assert_array_equal(regions.boxes, np.swapaxes(boxes, 0, 1))
    assert len(np.unique(boxes)) > 3
    for n, part in enumerate(features):
        assert relative_difference(output.features[:, n], part.detach().numpy()) < TOLERANCES["features"]
        own = output.logits[:, n, schema.attribute_of == n]
        assert relative_difference(own, logits[n].detach().numpy()) < TOLERANCES["features"]
    assert relative_difference(output.localization, localization.detach().numpy()) < TOLERANCES["features"]
    assert relative_difference(found, expected.detach().numpy()) < TOLERANCES["terms"]
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients["params"]):
        leaf = leaves
        for key in path:
            leaf = leaf[key.key]
        assert gradient.any()
        assert relative_difference(gradient, leaf.grad.numpy()) < TOLERANCES["gradients"], path
