"""Fuzz targets of what reads data: tables, split directories, images, embeddings, TFDS, the image cache."""

import importlib.util
import io
import json
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image
from safetensors.numpy import save_file

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TRAIN, Catalogue, Sampling, Transform, split_parts
from gradrev_jax.data.formats.adde.reader import read_adde
from gradrev_jax.data.formats.adde.writer import write_adde
from gradrev_jax.data.formats.table.columns import AttributeRules
from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.data.formats.table.reader import TableLayout, read_table
from gradrev_jax.data.images.cache import cached_images
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.metadata import strip_metadata
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.data.triplets import generate_triplets
from gradrev_jax.data.vectors.reader import open_vectors
from gradrev_jax.errors import UserError
from gradrev_jax.serving.photos import picture, read_photo
from tests.faults.fuzzing import SECRET, Target, all_files

SQUARE = Transform(16, 18)
IMAGES = tuple(f"images/{number}.png" for number in range(8))
COLORS, SIZES = ("red", "Blue", "blue"), ("s", "m", "l")
# The arguments of Pillow's save, by the name of the file.
SAVES = {
    "base.jpg": {"quality": 80},
    "progressive.jpg": {"progressive": True, "subsampling": 2, "comment": b"a comment"},
    **{
        name: {}
        for name in ("a.png", "a.gif", "a.bmp", "a.tif", "a.ppm", "a.tga", "a.pcx", "a.ico", "a.icns")
    },
    **{name: {} for name in ("a.sgi", "a.dds", "a.jp2", "a.eps")},
    "lossy.webp": {"quality": 40},
    "lossless.webp": {"lossless": True},
    "a.avif": {"quality": 40},
    "lzw.tif": {"compression": "tiff_lzw"},
    "jpeg.tif": {"compression": "jpeg"},
    "deflate.tif": {"compression": "tiff_adobe_deflate"},
}


class ChangedFiles:
    """Finds the files that are not as they were when their folder was first seen: to read all takes long."""

    def __init__(self) -> None:
        self._first: dict[pathlib.Path, bytes] = {}

    def find(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns the files that have changed; all of them the first time."""
        files = {path: path.read_bytes() for path in all_files(folder)}
        if not files.keys() <= self._first.keys():
            self._first = files
            return [path for path in files if path.suffix != ".eps"]  # which is refused as it is
        return [path for path, content in files.items() if content != self._first[path]]


CHANGED = ChangedFiles()


def only(*patterns: str) -> Callable[[pathlib.Path], list[pathlib.Path]]:
    """Returns a function that finds the files of some patterns."""
    return lambda folder: sorted(path for pattern in patterns for path in folder.glob(pattern))


def draw_images(folder: pathlib.Path) -> None:
    """Writes eight small images, and a link out of the folder."""
    (folder / "images").mkdir()
    for number, name in enumerate(IMAGES):
        Image.new("RGB", (12, 9), (number * 30, 40, 200)).save(folder / name)
    (folder / "link.jpg").symlink_to(f"../{SECRET}")


def check_catalogue(catalogue: Catalogue) -> None:
    """Asserts what holds for every catalogue, and reads its first images."""
    rows, (count, attributes) = len(catalogue.images), catalogue.labels.shape
    assert rows == count
    assert attributes == len(catalogue.schema.names) >= 1
    sizes = np.array([len(values) for values in catalogue.schema.values])
    assert ((catalogue.labels >= -1) & (catalogue.labels < sizes)).all()
    for part in catalogue.parts.values():
        assert ((part >= 0) & (part < rows)).all()
        assert len(np.unique(part)) == len(part)
    if isinstance(catalogue.images, ImageFiles):
        for row in range(min(rows, 3)):
            assert catalogue.images.read(row, SQUARE).shape == (16, 16, 3)


def make_table(folder: pathlib.Path) -> None:
    """Writes a table with quotes, missing cells and several letters."""
    draw_images(folder)
    lines = ["image,split,colour,style name,länge"]
    for row, name in enumerate(IMAGES):
        part = ("train", "val", "test", "train")[row % 4]
        style = ('"long, ""wide"""', "short", "")[row % 3]
        lines.append(f"{name},{part},{COLORS[row % 3]},{style},{row % 3}.0")
    (folder / "attributes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_default_table(folder: pathlib.Path) -> None:
    """Reads the table as a run with default settings does."""
    check_catalogue(read_table(folder, say=lambda note: None))


def make_tables(folder: pathlib.Path) -> None:
    """Writes a table with tabs in UTF-16, and one with semicolons and a template of paths."""
    draw_images(folder)
    rows = [f"{row}\t{COLORS[row % 3]}|{SIZES[row % 2]}\t{SIZES[row % 3]}" for row in range(8)]
    (folder / "tabs.tsv").write_text("id\ttags\tsize\n" + "\n".join(rows), encoding="utf-16")
    rows = [f"{row};{COLORS[row % 3]};{SIZES[row % 3]};x{row % 4}" for row in range(8)]
    (folder / "semicolons.csv").write_text("sep=;\r\nid;colour;size;\r\n" + "\r\n".join(rows), "utf-8-sig")


def read_tables(folder: pathlib.Path) -> None:
    """Reads both with other settings."""
    tabs = TableLayout("tabs.tsv", image_template="images/{id}.png", split_column=None)
    rules = AttributeRules(cells=CellRules(value_separator="|"), min_count=2, verbatim=("size",))
    by_order = Sampling(None, 0.4, "order", 0)
    check_catalogue(read_table(folder, tabs, rules, by_order, say=lambda note: None))
    semicolons = TableLayout("semicolons.csv", image_template="images/{id:01d}.png", split_column=None)
    ignoring = AttributeRules(ignore=("Unnamed: 3",))
    check_catalogue(read_table(folder, semicolons, ignoring, by_order, say=lambda note: None))


def make_adde(folder: pathlib.Path) -> None:
    """Writes a split directory with queries and triplets."""
    draw_images(folder)
    schema = AttributeSchema(("colour", "size"), (("blue", "red"), SIZES))
    labels = np.array([[row % 2, row % 3] for row in range(8)], np.int32)
    parts = split_parts(np.array(["train", "test"] * 4))
    catalogue = Catalogue(schema, ImageFiles(folder, IMAGES), labels, parts)
    queries = generate_queries(catalogue.part_labels("test"), schema)
    rows = catalogue.rows(TRAIN)
    triplets = generate_triplets(labels[rows], schema, count=6, num_changes=1)
    write_adde(folder / "splits", catalogue, queries, triplets.renumber(rows))


def read_splits(folder: pathlib.Path) -> None:
    """Reads it, and checks that queries and triplets are of its images."""
    for drop in (False, True):
        catalogue = read_adde(folder / "splits", folder, drop_contradictions=drop)
        check_catalogue(catalogue)
        if catalogue.queries is not None:
            assert (catalogue.queries.reference < len(catalogue.parts["test"])).all()
        if catalogue.triplets is not None:
            assert (catalogue.triplets.reference < len(catalogue.parts["train"])).all()


def picture_to_save() -> Image.Image:
    """Returns a small picture with edges and ramps."""
    ramp = np.linspace(0, 255, 24 * 20).reshape(20, 24)
    pixels = np.stack([ramp, ramp[::-1], np.where(ramp > 100, 200, 20)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def make_images(folder: pathlib.Path) -> None:
    """Writes a picture in each format, and in the modes that have a way of their own."""
    image = picture_to_save()
    for name, options in SAVES.items():
        image.save(folder / name, **options)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a camera"
    image.save(folder / "exif.jpg", exif=exif)
    image.save(folder / "exif.png", exif=exif)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.quantize(16).save(folder / "palette.png", transparency=3)
    image.convert("RGBA").save(folder / "alpha.webp")
    image.convert("1").save(folder / "bits.png")
    image.convert("1").save(folder / "fax.tif", compression="group4")
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep.tif")
    Image.fromarray(deep.astype(np.float32) / 65535).save(folder / "float.tif")
    image.save(folder / "frames.gif", save_all=True, append_images=[image.rotate(90)], duration=10)
    image.save(folder / "frames.png", save_all=True, append_images=[image.rotate(90)])


def read_images(folder: pathlib.Path) -> None:
    """Reads the changed files, as the table and a shop do."""
    paths = CHANGED.find(folder)
    images = ImageFiles(folder, tuple(path.relative_to(folder).as_posix() for path in paths))
    for row in range(len(images)):
        try:
            pixels = images.read(row, SQUARE)
        except MemoryError:
            raise
        except Exception as error:  # as the pool that reads them, which names the file
            raise UserError(f"{images.name(row)}: {error}") from error
        assert pixels.shape == (16, 16, 3)
        assert pixels.dtype == np.uint8
        assert picture(images, row, 24).startswith(b"\xff\xd8")


def read_photos(folder: pathlib.Path) -> None:
    """Reads the changed files as photographs, by their path and by their content."""
    for path in CHANGED.find(folder):
        pixels = read_photo(path, 16)
        np.testing.assert_array_equal(read_photo(path.read_bytes(), 16), pixels)


def strip_files(folder: pathlib.Path) -> None:
    """Strips the changed files; what is left is a part of them, and has nothing more to strip."""
    for path in CHANGED.find(folder):
        content = path.read_bytes()
        bare = strip_metadata(content)
        assert len(bare) <= len(content)
        assert strip_metadata(bare) == bare


def make_vectors(name: str) -> Callable[[pathlib.Path], None]:
    """Returns a function that writes vectors in one format."""

    def make(folder: pathlib.Path) -> None:
        vectors = np.arange(32, dtype=np.float32).reshape(8, 4) / 7
        path = folder / name
        if name == "v.npy":
            np.save(path, vectors)
        elif name == "v.npz":
            np.savez(path, names=np.array(IMAGES), embeddings=vectors)
        elif name == "c.npz":
            np.savez_compressed(path, names=np.array(IMAGES).astype("S"), embeddings=vectors.astype("f2"))
        elif name == "v.safetensors":
            save_file({"embeddings": vectors}, path, {"names": json.dumps(IMAGES)})
        elif name == "t.safetensors":
            lines = np.frombuffer("\n".join(IMAGES).encode(), np.uint8)
            save_file({"names": lines, "embeddings": vectors.astype(np.float16)}, path)
        else:
            import pyarrow
            import pyarrow.parquet

            table = pyarrow.table({"names": IMAGES, "embeddings": list(vectors)})
            pyarrow.parquet.write_table(table, path, compression="zstd" if name == "z.parquet" else "snappy")

    return make


def read_vectors(folder: pathlib.Path) -> None:
    """Opens the vectors, and reads all and some of them."""
    (path,) = all_files(folder)
    vectors = open_vectors(path, IMAGES, say=lambda note: None, progress=False)
    assert vectors.shape[:2] == (8, 1)
    whole = vectors[:]
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(vectors[np.array([5, 2])], whole[[5, 2]])


def make_cache(folder: pathlib.Path) -> None:
    """Writes images and the entry of a cache that has them."""
    draw_images(folder)
    read_cache(folder)


def read_cache(folder: pathlib.Path) -> None:
    """Reads through the cache; whatever an entry has become, its shape and type are right."""
    images = ImageFiles(folder, IMAGES)
    pixels = cached_images(images, np.arange(8), SQUARE, folder / "cache", workers=1, progress=False)
    assert pixels.shape == (8, 16, 16, 3)
    assert pixels.dtype == np.uint8
    assert np.asarray(pixels).sum() >= 0  # a map that is longer than its file would end the process


def make_tfds(folder: pathlib.Path) -> None:
    """Prepares a tiny data set."""
    import tensorflow_datasets as tfds

    class TinyShop(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Eight images."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = pathlib.Path(__file__).parent

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "colour": tfds.features.ClassLabel(names=COLORS),
                "brand": tfds.features.Text(),
                "flags": {"new": np.bool_, "count": np.int64},
            }
            return tfds.core.DatasetInfo(
                builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {part: self._generate_examples(rows) for part, rows in (("train", 8), ("test", 4))}

        def _generate_examples(self, rows):
            for row in range(rows):
                file = io.BytesIO()
                Image.new("RGB", (12, 9), (row * 30, 40, 200)).save(file, "PNG")
                flags = {"new": row % 2 == 0, "count": row % 3}
                brand = ("Öko", "acme", "")[row % 3]
                yield row, {"image": file.getvalue(), "colour": row % 3, "brand": brand, "flags": flags}

    TinyShop.name = "tiny_shop"
    TinyShop(data_dir=folder, file_format="array_record").download_and_prepare()


def read_prepared(folder: pathlib.Path) -> None:
    """Reads the data set and its first images."""
    from gradrev_jax.data.formats.tfds.reader import TfdsFeatures, read_tfds

    features = TfdsFeatures({"colour": "colour", "brand": "brand", "new": "flags/new", "n": "flags/count"})
    catalogue = read_tfds("tiny_shop", str(folder), features, progress=False)
    check_catalogue(catalogue)
    for row in range(min(3, len(catalogue.images))):
        try:
            pixels = catalogue.images.read(row, SQUARE)
        except MemoryError:
            raise
        except Exception as error:  # as the pool that reads them, which names the record
            raise UserError(f"{folder}: {catalogue.images.name(row)}: {error}") from error
        assert pixels.shape == (16, 16, 3)


def _targets() -> list[Target]:
    targets = [
        Target("table", make_table, read_default_table, only("attributes.csv")),
        Target("tables", make_tables, read_tables, only("*.?sv")),
        Target("adde", make_adde, read_splits, only("splits/*.txt")),
        Target("images", make_images, read_images),
        Target("photos", make_images, read_photos, named=False),
        Target("metadata", make_images, strip_files, only("*.jpg", "*.png")),
        Target("cache", make_cache, read_cache, only("cache/*.npy")),
    ]
    formats = ["v.npy", "v.npz", "c.npz", "v.safetensors", "t.safetensors"]
    if importlib.util.find_spec("pyarrow"):
        formats += ["v.parquet", "z.parquet"]
    targets += [Target(f"vectors {name}", make_vectors(name), read_vectors) for name in formats]
    if importlib.util.find_spec("tensorflow_datasets") and importlib.util.find_spec("array_record"):
        targets.append(Target("tfds", make_tfds, read_prepared, only("**/*.json", "**/*array_record*")))
    return targets


TARGETS = {target.name: target for target in _targets()}
