"""gradrev_jax against the PyTorch reference itself, where torch and faiss are installed."""

import jax
import numpy as np
import pytest
from PIL import Image

from gradrev_jax import class_prototypes
from gradrev_jax.core.triplet_losses import attribute_triplet_loss, semi_hard_triplet_loss
from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.models.inputs import normalize_images
from gradrev_jax.weights.adde import memory_to_torch
from tests.parity import cases, golden, ours
from tests.parity.comparing import assert_metrics, assert_parity, assert_retrieval, relative_difference


@pytest.fixture(scope="module")
def reference():
    for library in ("torch", "faiss"):
        pytest.importorskip(library)
    from tests.parity import reference

    return reference


@pytest.fixture(scope="module")
def arrays():
    return golden.read()


@pytest.mark.parametrize("case", cases.GOLDEN, ids=lambda case: case.name)
def test_the_golden_file_is_what_the_reference_says(arrays, reference, case):
    """Else ``python -m tests.parity.make_golden`` is due."""
    weights, batch, expected = golden.of_case(arrays, case)
    assert_parity(case, reference.run(case, weights, batch), expected)
    for made, stored in zip(cases.make_batch(case), batch, strict=True):
        np.testing.assert_array_equal(made, stored)
    for name, weight in cases.make_weights(reference.shapes(case)).items():
        np.testing.assert_array_equal(weight, weights[name])


def test_the_golden_queries_are_answered_as_the_reference_does(arrays, reference):
    queries, neighbors, metrics = golden.retrieval(arrays)
    assert_retrieval(queries, reference.search(queries), cases.SIZES)
    for name, values in reference.metrics(queries, neighbors, cases.SIZES).items():
        np.testing.assert_array_equal(values, metrics[name])


@pytest.mark.parametrize("case", cases.LIVE, ids=lambda case: case.name)
def test_training(reference, case):
    # A wide classifier that is sure of all its answers has no gradient but rounding.
    scale = 0.25 if case.full_width else 1.0
    weights = cases.make_weights(reference.shapes(case), classifier_scale=scale)
    batch = cases.make_batch(case)
    assert_parity(case, ours.run(case, weights, batch), reference.run(case, weights, batch))


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.FULL, ids=lambda case: case.name)
def test_training_at_full_width(reference, case):
    test_training(reference, case)


def test_semi_hard_negatives_where_distances_tie(reference, rng):
    """Small whole numbers: distances are exact, and often equal."""
    import torch

    from benchmarks.torch_reference import losses

    for _ in range(20):
        embeddings = rng.integers(0, 3, (12, 2)).astype(np.float32)
        labels = rng.integers(-1, 2, (12, 2)).astype(np.int32)
        of_torch = torch.tensor(embeddings), torch.tensor(labels, dtype=torch.int64)
        found = semi_hard_triplet_loss(embeddings, labels)
        expected = losses.semi_hard_triplet_loss(*of_torch)
        assert relative_difference(found, expected) < 1e-6


def test_an_attribute_that_no_image_is_labelled_for_adds_nothing(reference, rng):
    import torch

    from benchmarks.torch_reference import losses

    features, labels = rng.normal(size=(6, 2, 4)).astype(np.float32), np.array([[0, -1]] * 3 + [[1, -1]] * 3)
    of_torch = [torch.tensor(features[:, n], requires_grad=True) for n in range(2)]
    expected = losses.attribute_triplet_loss(of_torch, torch.tensor(labels))
    expected.backward()
    value, gradient = jax.value_and_grad(attribute_triplet_loss)(features, labels)
    assert relative_difference(value, expected.detach()) < 1e-6
    for n, block in enumerate(of_torch):
        np.testing.assert_allclose(gradient[:, n], block.grad, atol=1e-6)
    assert not gradient[:, 1].any()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"seed": 4}, id="tiny"),
        pytest.param({"seed": 5, "sizes": (4,)}, id="one_attribute"),
        pytest.param(
            {"sizes": cases.SHOPPING100K, "dim": 340, "gallery": 3000, "queries": 300},
            id="full",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_retrieval(reference, fields):
    queries, sizes = cases.make_retrieval(**fields), fields.get("sizes", cases.SIZES)
    neighbors = reference.search(queries)
    assert_retrieval(queries, neighbors, sizes)
    assert_metrics(queries, neighbors, reference.metrics(queries, neighbors, sizes))


class EveryCandidateOnce:
    """In place of the reference's random draws, which then give the exact mean."""

    def choice(self, candidates, draws):
        return candidates


def test_prototypes(reference):
    import torch

    from benchmarks.torch_reference.prototypes import memory_weight
    from benchmarks.torch_reference.training import normalized

    case = cases.Case("prototypes")
    images = normalized(torch.tensor(cases.make_images(12, case.pixels)))
    labels = cases.make_batch(case).labels.reshape(12, -1)
    most = max(case.sizes)
    labels[:most] = np.arange(most)[:, None] % case.sizes  # every value has an image,
    labels[labels[:, 0] == 1, 0] = -1  # but one
    (encoder,) = reference.modules(case, cases.make_weights(reference.shapes(case)))
    with torch.no_grad():
        features = torch.stack(encoder(images), dim=1).numpy()
    expected = memory_weight(encoder, images.__getitem__, labels, EveryCandidateOnce())
    found = memory_to_torch(class_prototypes(features, labels, ours.make_schema(case.sizes)))
    assert relative_difference(found["Memory.weight"], expected.numpy()) < 1e-5
    assert not expected[:, 1].any()


def test_photographs(reference, tmp_path):
    """Resized, cropped and normalised alike; mirrored in some draws and not in others."""
    import torch

    from benchmarks.torch_reference.loading import Photographs, loader

    pixels = cases.make_images(1, 160)[0, :120]
    Image.fromarray(pixels).save(tmp_path / "0.png")
    labels = np.array([[1, -1]], np.int32)
    dataset = Photographs([tmp_path / "0.png"], labels, size=64, resize=72)
    read = ImageFiles(tmp_path, ("0.png",)).read(0, Transform(64, 72))
    upright = np.asarray(normalize_images(read[None]))[0].transpose(2, 0, 1)
    torch.manual_seed(0)
    mirrored = set()
    for _ in range(20):
        ((image,), row) = next(iter(loader(dataset, 1, workers=0)))
        assert row.dtype == torch.int64
        np.testing.assert_array_equal(row, labels)
        difference = [relative_difference(image, view) for view in (upright, upright[:, :, ::-1])]
        assert min(difference) < 1e-6 < max(difference)
        mirrored.add(difference[0] > difference[1])
    assert mirrored == {False, True}
    whole_numbers, _ = Photographs([tmp_path / "0.png"], labels, size=64, resize=72, normalize=False)[0]
    assert any(np.array_equal(whole_numbers, view) for view in (read, read[:, ::-1]))
