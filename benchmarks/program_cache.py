"""Keeps measured processes from JAX's cache of compiled programs that the environment may choose."""

import os

# Environment variables that choose where JAX keeps compiled programs, and whether it does.
PROGRAM_CACHE = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_COMPILATION_CACHE_MAX_SIZE",
)


def without_program_cache() -> dict[str, str]:
    """Returns the environment of this process without the variables that choose a cache of programs."""
    return {name: value for name, value in os.environ.items() if name not in PROGRAM_CACHE}
