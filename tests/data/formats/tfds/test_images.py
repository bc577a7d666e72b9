import numpy as np
import pytest
from PIL import Image

from gradrev_jax.data.catalogue import ImageSource, Sampling, Transform
from gradrev_jax.data.images.cache import cached_images
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")
tfds_images = pytest.importorskip("gradrev_jax.data.formats.tfds.images")
F = tfds.features
TRANSFORM = Transform(6, 8)


def images_of(feature, *contents, path="image"):
    """Images of records made of these contents."""
    features = F.FeaturesDict(
        {"number": np.int64, "image": feature} if path == "image" else {"a": {"b": feature}}
    )

    def example(number, content):
        return {"number": number, "image": content} if path == "image" else {"a": {"b": content}}

    serialised = [features.serialize_example(example(*item)) for item in enumerate(contents)]
    records = tfds_images.Records.from_sources("drawn", {"train": serialised})
    return tfds_images.TfdsImages.from_feature(records, features, path)


@pytest.fixture
def photograph(rng):
    return rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)


def test_an_encoded_image_is_read_as_from_its_file(photograph, as_png, tmp_path):
    images = images_of(F.Image(), as_png(photograph))
    assert isinstance(images, ImageSource)
    (tmp_path / "a.png").write_bytes(as_png(photograph))
    expected = ImageFiles(tmp_path, ("a.png",)).read(0, TRANSFORM)
    np.testing.assert_array_equal(images.read(0, TRANSFORM), expected)
    assert images.name(0) == "drawn/train/0"


def test_an_array_is_the_same_image(photograph, as_png):
    array = images_of(F.Tensor(shape=(12, 10, 3), dtype=np.uint8), photograph, path="a/b")
    encoded = images_of(F.Image(), as_png(photograph), path="a/b")
    np.testing.assert_array_equal(array.read(0, TRANSFORM), encoded.read(0, TRANSFORM))
    assert array.digest(0) != encoded.digest(0)


def test_a_mask_of_zeros_and_ones_is_black_and_white(as_png):
    mask = np.zeros((8, 8, 1), np.uint8)
    mask[2:5, 1:4] = 1
    expected = np.repeat(255 * mask, 3, axis=2)
    for images in (
        images_of(F.Tensor(shape=(8, 8, 1), dtype=np.uint8), mask),
        images_of(F.Image(shape=(8, 8, 1)), as_png(mask[..., 0])),
    ):
        np.testing.assert_array_equal(images.read(0, Transform(8, 8)), expected)


@pytest.mark.parametrize("levels", [(0, 2), (0, 0), (1, 255)])
def test_other_greys_stay(levels, as_png):
    grey = np.full((8, 8), levels[0], np.uint8)
    grey[2:4] = levels[1]
    read = images_of(F.Image(shape=(8, 8, 1)), as_png(grey)).read(0, Transform(8, 8))
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=2))


def test_digests_tell_images_apart(photograph, as_png):
    other = photograph.copy()
    other[0, 0, 0] ^= 1
    images = images_of(F.Image(), as_png(photograph), as_png(other), as_png(photograph))
    first, second, third = (images.digest(row) for row in range(3))
    assert first == third != second
    arrays = np.ones((2, 3, 1), np.uint8), np.ones((3, 2, 1), np.uint8)
    flat = images_of(F.Tensor(shape=(None, None, 1), dtype=np.uint8, encoding="zlib"), *arrays)
    assert flat.digest(0) != flat.digest(1), "the same bytes, another shape"


def test_unreadable_images_are_all_named_by_the_cache(photograph, as_png, tmp_path):
    good = as_png(photograph)
    images = images_of(F.Image(), good, b"", b"no image", good[:40])
    with pytest.raises(DataError) as error:
        cached_images(images, np.arange(4), TRANSFORM, tmp_path, progress=False)
    lines = str(error.value).splitlines()
    assert lines[0] == "3 of 4 images cannot be read:"
    assert lines[1] == "  drawn/train/1: the record has no image"
    (entry,) = tmp_path.iterdir()
    assert len(np.load(entry)) == 1  # of the image that can be read


def test_several_threads_read_the_same(tiny_dir, tmp_path):
    builder = tfds.builder("tiny_garments", data_dir=tiny_dir)
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    sources = {split: builder.as_data_source(split, deserialize_method=raw) for split in ("train", "test")}
    images = tfds_images.TfdsImages.from_feature(
        tfds_images.Records.from_sources("tiny", sources), builder.info.features, "image"
    )
    rows = np.arange(len(images))
    cached = cached_images(images, rows, TRANSFORM, tmp_path, workers=8, progress=False)
    for row in rows[::7].tolist():
        number = row if row < 48 else row - 48
        array = builder.as_data_source("train" if row < 48 else "test")[number]["pixels"]
        np.testing.assert_array_equal(cached[row], images.read(row, TRANSFORM))
        np.testing.assert_array_equal(
            images.read(row, Transform(30, 30)), np.asarray(Image.fromarray(array).resize((30, 30), 2))
        )


def test_cells_come_in_the_order_of_rows_across_chunks_and_splits(monkeypatch):
    monkeypatch.setattr(tfds_images, "CHUNK", 4)

    class Source(list):
        def __getitems__(self, keys):
            assert len(keys) <= 4
            return [self[key] for key in keys]

    features = F.FeaturesDict({"a": {"b": np.int64}, "c": np.int64})
    numbers = {"one": range(10), "two": range(100, 107)}
    sources = {
        split: Source(features.serialize_example({"a": {"b": number}, "c": 0}) for number in found)
        for split, found in numbers.items()
    }
    records = tfds_images.Records.from_sources("x", sources)
    assert tfds_images.read_columns(records, features, ["a/b"]) == {"a/b": [*range(10), *range(100, 107)]}
    drawn = tfds_images.Records.from_sources("x", sources, Sampling(limit=9, seed=3))
    found = tfds_images.read_columns(drawn, features, ["a/b"])["a/b"]
    assert found == sorted(found)
    assert len(set(found)) == 9
    assert [features.deserialize_example_np(drawn[row])["a"]["b"] for row in range(9)] == found


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        (F.Image(shape=(None, None, 1)), True),
        (F.Image(shape=(4, 4, 1), dtype=np.float32), False),
        (F.Tensor(shape=(None, None, 3), dtype=np.uint8), True),
        (F.Tensor(shape=(4, 4), dtype=np.uint8), False),
        (F.Tensor(shape=(4, 4, 3), dtype=np.float32), False),
        (F.Sequence(F.Image()), False),
        (F.Text(), False),
    ],
)
def test_features_that_are_images(feature, expected):
    assert tfds_images.is_image(feature) is expected
