"""FashionSearchNet in float64 NumPy, one pixel, one box and one attribute at a time."""

import numpy as np


def maps_by_loops(maps, kernel, values):
    images, height, width, _ = maps.shape
    found = np.zeros((images, values.shape[1], height, width))
    for b, n, i, j in np.ndindex(found.shape):
        found[b, n, i, j] = sum(
            float(feature) * float(weight)
            for feature, weight in zip(maps[b, i, j], kernel[:, values[b, n]], strict=True)
        )
    return found


def box_by_flooding(grid, threshold):
    """The regions of one map, each flooded from its first cell, in reading order."""
    above = {cell for cell in np.ndindex(grid.shape) if grid[cell] > threshold * grid.max()}
    above = above or set(np.ndindex(grid.shape))
    regions = []
    while above:
        reached, open_cells = set(), [min(above)]
        while open_cells:
            i, j = open_cells.pop()
            if (i, j) in above:
                above.remove((i, j))
                reached.add((i, j))
                open_cells += [(i + down, j + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        regions.append(reached)
    rows, columns = zip(*max(regions, key=len), strict=True)
    return [min(rows), min(columns), max(rows) + 1, max(columns) + 1]


def crop_by_loops(image, box, size):
    """Weighted means of cells, one cell of the grid at a time."""
    found = np.zeros((size, size, image.shape[-1]))
    for i, j in np.ndindex(size, size):
        weights = 1.0
        for axis, position, start, stop in ((0, i, box[0], box[2]), (1, j, box[1], box[3])):
            step = (stop - start) / size
            centre = start + (position + 0.5) * step - 0.5
            distance = np.abs(np.arange(image.shape[axis]) - centre) / max(step, 1.0)
            triangle = np.maximum(1 - distance, 0)
            weights = np.multiply.outer(weights, triangle / triangle.sum())
        found[i, j] = np.einsum("hw,hwc->c", weights, image)
    return found


def slow_convolution(x, params, stride, padding):
    kernel = np.asarray(params["kernel"], np.float64)
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out = (x.shape[1] - size) // stride + 1
    result = np.zeros((len(x), out, out, kernel.shape[-1]))
    for i in range(out):
        for j in range(out):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.tensordot(window, kernel, axes=3)
    return result + np.asarray(params["bias"])


def slow_max_pool(x):
    out = (x.shape[1] - 3) // 2 + 1
    result = np.zeros((len(x), out, out, x.shape[-1]))
    for i in range(out):
        for j in range(out):
            result[:, i, j] = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2))
    return result


def alexnet_maps(params, images):
    x = np.asarray(images, np.float64)
    for name, stride, padding, pool in [
        ("conv1", 4, 2, True),
        ("conv2", 1, 2, True),
        ("conv3", 1, 1, False),
        ("conv4", 1, 1, False),
        ("conv5", 1, 1, False),
    ]:
        x = np.maximum(slow_convolution(x, params[name], stride, padding), 0)
        x = slow_max_pool(x) if pool else x
    return x


def localize(params, maps, schema, threshold):
    """The logits [B, J] of the localising classifiers, the values they predict, the maps and the boxes."""
    x = np.maximum(slow_convolution(maps, params["conv6"], 1, 1), 0)
    x = np.maximum(slow_convolution(x, params["conv7"], 1, 1), 0)
    logits = x.mean(axis=(1, 2)) @ params["kernel"] + params["bias"]
    slices = [slice(start, start + size) for start, size in zip(schema.offsets, schema.sizes, strict=True)]
    predicted = np.array([[part.start + row[part].argmax() for part in slices] for row in logits])
    activations = maps_by_loops(x, params["kernel"], predicted)
    boxes = [[box_by_flooding(grid, threshold) for grid in image] for image in activations]
    return logits, predicted - np.array(schema.offsets), activations, np.array(boxes)


def forward(params, images, schema, threshold=0.2, grid=3):
    """The features [B, N, d], the logits [B, N, J] and the localising logits [B, J]."""
    maps = alexnet_maps(params["backbone"], images)
    localization, _, _, boxes = localize(params["localization"], maps, schema, threshold)
    features = np.zeros((len(images), schema.num_attributes, params["branches"]["third"]["bias"].shape[1]))
    for b, n in np.ndindex(features.shape[:2]):
        x = crop_by_loops(maps[b], boxes[b, n], grid).ravel()
        for name in ("first", "second", "third"):
            layer = params["branches"][name]
            x = x @ layer["kernel"][n] + layer["bias"][n]
            x = x if name == "third" else np.maximum(x, 0)
        features[b, n] = x * np.exp(params["log_weights"][n]) if "log_weights" in params else x
    return features, features @ params["heads"]["kernel"] + params["heads"]["bias"], localization
