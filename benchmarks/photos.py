"""Measures a new photograph up to its first results: decoding, AlexNet, and a gallery of 20,000 x 4,080.

    python -m benchmarks.photos

The photograph is a JPEG of 900 x 1,200 random pixels, in memory; AlexNet has random weights, which take as
long as others. Nothing of the photograph is known before: its products with the gallery are computed, too.
"""

import argparse
import io
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.recording import machine_name, parse_flags, record
from benchmarks.schemas import SHOPPING100K_SIZES, schema_of_sizes
from benchmarks.serving import ITEMS, WIDTH, random_retriever
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.serving.network import Network

SIZES = (224, 96)  # pixels
TIMES = 30


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints and records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    options = parse_flags(parser, arguments)
    items, dim, network_width, times = (50, 8, 1 / 32, 2) if options.tiny else (ITEMS, WIDTH, 1.0, TIMES)
    sizes = {str(size): measure(size, items, dim, network_width, times) for size in SIZES}
    result = {"items": items, "pixels": sizes}
    record(options.out / f"photos_{machine_name()}.json", result, about=options.about)
    return result


def measure(size: int, items: int, dim: int, network_width: float, times: int) -> dict[str, float]:
    """Returns the milliseconds from a photograph to its 20 first results: median, least and most.

    Args:
      size: the height and width of the images that the network sees, in pixels.
      items: the number of garments.
      dim: the numbers of each attribute's feature.
      network_width: the width of AlexNet.
      times: the number of photographs.
    """
    encoder = AttributeEncoder(schema_of_sizes(SHOPPING100K_SIZES), feature_dim=dim, width=network_width)
    params = jax.jit(encoder.init)(jax.random.key(0), encoder.inputs.example(size))
    shop = random_retriever(items, dim, lambda: Network(encoder, params, None, size))
    shop.warm()
    rng, taken = np.random.default_rng(0), []
    for _ in range(times + 2):  # the first two warm up
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (1200, 900, 3), np.uint8)).save(file, "JPEG")
        started = time.perf_counter()
        shop.photo(file.getvalue()).search(20)
        taken.append(1e3 * (time.perf_counter() - started))
    measured = np.array(taken[2:])
    return {
        "median": round(float(np.median(measured)), 1),
        "least": round(float(measured.min()), 1),
        "most": round(float(measured.max()), 1),
    }


if __name__ == "__main__":
    print(main()["pixels"])
