"""Tiny data sets that TFDS prepares in a moment, without TensorFlow."""

import io

import numpy as np
import pytest
from PIL import Image

COLORS, SIZES = ("red", "green", "blue"), ("s", "m", "l")


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def tiny_example(index):
    """What the record is made of: every kind of feature, labels missing here and there."""
    rng = np.random.default_rng(index)
    color, size = index % 3, (index // 3) % 3
    pixels = rng.integers(0, 60, (40, 30, 3))
    pixels[10 : 20 + 10 * size // 2, :, color] += 180
    return {
        "image": png(pixels),
        "pixels": pixels.astype(np.uint8),
        "mask": (pixels[:8, :8, :1] > 30).astype(np.uint8),
        "color": color if index % 7 else -1,
        "size": SIZES[size],
        "rare": 2 if index == 5 else index % 2,
        "same": 1,
        "sleeves": 5 * (index % 4) - 5,
        "flags": {"striped": index % 2 == 0, "deep": {"dotted": index % 5 == 0}},
        "brand": ("", "Öko", "acme ", "acme")[index % 4],
        "price": index / 2,
        "tags": [1, 2],
    }


@pytest.fixture(scope="session")
def tiny_builder():
    """A builder of 48 training images, 12 for validation and 30 for the test."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyGarments(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "pixels": tfds.features.Tensor(shape=(40, 30, 3), dtype=np.uint8),
                "mask": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                "color": tfds.features.ClassLabel(names=COLORS),
                "size": tfds.features.ClassLabel(names=SIZES),
                "rare": tfds.features.ClassLabel(num_classes=4),
                "same": tfds.features.ClassLabel(num_classes=2),
                "sleeves": np.int64,
                "flags": {"striped": np.bool_, "deep": {"dotted": np.bool_}},
                "brand": tfds.features.Text(),
                "price": np.float32,
                "tags": tfds.features.Sequence(np.int64),
            }
            return tfds.core.DatasetInfo(
                builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            splits = {"train": range(48), "validation": range(48, 60), "test": range(60, 90)}
            return {split: self._generate_examples(numbers) for split, numbers in splits.items()}

        def _generate_examples(self, numbers):
            yield from ((index, tiny_example(index)) for index in numbers)

    return TinyGarments


@pytest.fixture(scope="session")
def tiny_dir(tiny_builder, tmp_path_factory):
    """Folder in which it is prepared, in several files a split."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    builder = tiny_builder(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    return folder


@pytest.fixture
def stand_in(tmp_path):
    """Prepares records under the name and with the features of a data set that TFDS knows."""
    tfds = pytest.importorskip("tensorflow_datasets")

    def prepare(name, splits):
        known = tfds.builder_cls(name)

        class StandIn(known, skip_registration=True):
            pkg_dir_path = known.pkg_dir_path

            def _split_generators(self, dl_manager):
                del dl_manager
                return {split: self._generate_examples(records) for split, records in splits.items()}

            def _generate_examples(self, records):
                yield from enumerate(records)

        StandIn.name = name
        StandIn(data_dir=tmp_path, file_format="array_record").download_and_prepare()
        return str(tmp_path)

    return prepare


@pytest.fixture(scope="session")
def as_png():
    """Encodes pixels."""
    return png
