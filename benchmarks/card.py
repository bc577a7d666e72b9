"""The machine's rates, to which achieved ones are compared: matrix products, memory, and transfers to it.

    python benchmarks/card.py

On a GPU: products of 8,192 x 8,192 matrices in bfloat16, in TF32 (what float32 means to JAX there, unless
told otherwise) and in true float32; a copy within the device's memory, bytes read and written both counted;
and uint8 images sent from the host. On a CPU smaller ones, without TF32.
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

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # where it is run as a file, not with -m

from benchmarks.recording import machine_name, query_card, record
from benchmarks.training_runs import spread

REPEATS = 7
# By platform: side of the matrices, products that are timed together, bytes of the copy, bytes sent.
GPU = {"matrix": 8192, "burst": 10, "copied": 2**32, "sent": 2**28}
CPU = {"matrix": 2048, "burst": 1, "copied": 2**28, "sent": 2**26}
TINY = {"matrix": 64, "burst": 2, "copied": 2**16, "sent": 2**16}


def rates(work: Callable[[], Any], amount: float) -> dict[str, float]:
    """Returns an amount over the seconds that work takes, once warm: median, least and most."""
    jax.block_until_ready(work())
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return spread([amount / one for one in seconds])


def matrix_rate(dtype: str, size: int, *, precision: str | None = None, burst: int = 1) -> dict[str, float]:
    """Returns the FLOP/s of products of large square matrices.

    Args:
      dtype: of the matrices.
      size: rows and columns.
      precision: ``highest`` for true float32 on a GPU; None: JAX's default.
      burst: products that are timed together, so that starting one hardly counts.
    """
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.dtype(dtype))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    return rates(lambda: [product(a, b) for _ in range(burst)], burst * 2.0 * size**3)


def copy_rate(size: int) -> dict[str, float]:
    """Returns the bytes a second that are read and written in the device's memory to negate numbers."""
    numbers = jnp.ones(size // 4, jnp.float32)
    negate = jax.jit(jnp.negative)
    return rates(lambda: negate(numbers), 2.0 * size)


def transfer_rate(size: int) -> dict[str, float]:
    """Returns the bytes a second from an array of NumPy's to the device."""
    pixels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    return rates(lambda: jax.device_put(pixels), float(size))


def call_rate(calls: int = 100) -> dict[str, float]:
    """Returns how many programs that do next to nothing are run in a second, each waited for."""
    one, add = jnp.ones(()), jax.jit(lambda x: x + 1)
    return rates(lambda: [jax.block_until_ready(add(one)) for _ in range(calls)], float(calls))


def measure(sizes: dict[str, int]) -> dict[str, Any]:
    """Returns the rates, and what the card says of itself."""
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
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    sizes = TINY if options.tiny else GPU if jax.default_backend() == "gpu" else CPU
    result = measure(sizes)
    for name, rate in result["matrix_flop_per_second"].items():
        print(f"matrix products, {name}: {rate['median'] / 1e12:,.1f} TFLOP/s")
    for name in ("copy", "transfer"):
        print(f"{name}: {result[f'{name}_bytes_per_second']['median'] / 1e9:,.1f} GB/s")
    record(options.out / f"card_{machine_name()}.json", result)
    return result


if __name__ == "__main__":
    main()
