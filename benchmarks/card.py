"""Measures the machine's peak rates: matrix products, memory, and transfers from the host.

    python benchmarks/card.py

The rates that programs achieve are compared with these. On a GPU it measures products of 8,192 x 8,192
matrices in bfloat16, in TF32 (JAX's default for float32 there) and in true float32; a copy within the
device's memory, counting the bytes read and the bytes written; and sending uint8 images from the host. On a
CPU the sizes are smaller, and there is no TF32.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.recording import machine_name, parse_flags, query_card, record
from benchmarks.training_runs import spread

REPEATS = 7
# Per platform: the rows of the square matrices, the products per timing, the bytes copied, the bytes sent.
GPU = {"matrix": 8192, "burst": 10, "copied": 2**32, "sent": 2**28}
CPU = {"matrix": 2048, "burst": 1, "copied": 2**28, "sent": 2**26}
TINY = {"matrix": 64, "burst": 2, "copied": 2**16, "sent": 2**16}


def rates(work: Callable[[], Any], amount: float) -> dict[str, float]:
    """Returns an amount divided by the seconds of the work after a warm-up: median, least and most."""
    jax.block_until_ready(work())
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return spread([amount / duration for duration in seconds])


def matrix_rate(dtype: str, size: int, *, precision: str | None = None, burst: int = 1) -> dict[str, float]:
    """Returns the FLOP/s of products of large square matrices.

    Args:
      dtype: the dtype of the matrices.
      size: the number of rows, and of columns.
      precision: the precision of the products, ``highest`` for true float32 on a GPU; None is JAX's default.
      burst: the number of products per timing; several make the cost of starting one negligible.
    """
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.dtype(dtype))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    return rates(lambda: [product(a, b) for _ in range(burst)], burst * 2.0 * size**3)


def copy_rate(size: int) -> dict[str, float]:
    """Returns the bytes read and written per second in the device's memory when numbers are negated."""
    numbers = jnp.ones(size // 4, jnp.float32)
    negate = jax.jit(jnp.negative)
    return rates(lambda: negate(numbers), 2.0 * size)


def transfer_rate(size: int) -> dict[str, float]:
    """Returns the bytes per second that are sent from a NumPy array to the device."""
    pixels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    return rates(lambda: jax.device_put(pixels), float(size))


def call_rate(calls: int = 100) -> dict[str, float]:
    """Returns the number of trivial programs that run per second when each is waited for."""
    one, add = jnp.ones(()), jax.jit(lambda x: x + 1)
    return rates(lambda: [jax.block_until_ready(add(one)) for _ in range(calls)], float(calls))


def measure(sizes: dict[str, int]) -> dict[str, Any]:
    """Returns the rates, and the model, memory and compute capability of the card."""
    device = jax.devices()[0]
    on_gpu = device.platform == "gpu"
    result: dict[str, Any] = {"card": device.device_kind, "platform": device.platform, "sizes": sizes}
    if on_gpu:
        total = query_card("memory.total")
        result["memory_gib"] = float(total) / 1024 if total else None
        result["compute_capability"] = getattr(device, "compute_capability", None)
    matrix = {"bfloat16": ("bfloat16", None), "float32": ("float32", "highest")}
    if on_gpu:
        matrix["tf32"] = ("float32", None)
    result["matrix_flop_per_second"] = {
        name: matrix_rate(dtype, sizes["matrix"], precision=precision, burst=sizes["burst"])
        for name, (dtype, precision) in matrix.items()
    }
    result["copy_bytes_per_second"] = copy_rate(sizes["copied"])
    result["transfer_bytes_per_second"] = transfer_rate(sizes["sent"])
    result["calls_per_second"] = call_rate()
    return result


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    options = parse_flags(parser, arguments)
    sizes = TINY if options.tiny else GPU if jax.default_backend() == "gpu" else CPU
    result = measure(sizes)
    for name, rate in result["matrix_flop_per_second"].items():
        print(f"matrix products, {name}: {rate['median'] / 1e12:,.1f} TFLOP/s")
    for name in ("copy", "transfer"):
        print(f"{name}: {result[f'{name}_bytes_per_second']['median'] / 1e9:,.1f} GB/s")
    record(options.out / f"card_{machine_name()}.json", result, about=options.about)
    return result


if __name__ == "__main__":
    main()
