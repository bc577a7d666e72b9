"""Unpacks packages that a machine lacks from wheels, without pip, network or installation."""

import importlib.util
import pathlib
import re
import sys
import zipfile
from collections.abc import Iterable

# The modules that benchmarks and tests import beyond the standard library, and their distributions.
NEEDED = {
    "absl": "absl-py",
    "beartype": "beartype",
    "chex": "chex",
    "flax": "flax",
    "jax": "jax",
    "jaxtyping": "jaxtyping",
    "matplotlib": "matplotlib",
    "ml_collections": "ml_collections",
    "ml_dtypes": "ml_dtypes",
    "numpy": "numpy",
    "optax": "optax",
    "orbax.checkpoint": "orbax-checkpoint",
    "packaging": "packaging",
    "PIL": "pillow",
    "pytest": "pytest",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "tensorboardX": "tensorboardX",
    "threadpoolctl": "threadpoolctl",
    "tqdm": "tqdm",
    "xdist": "pytest-xdist",
    "yaml": "PyYAML",
}
OPTIONAL = {"torch": "torch", "faiss": "faiss-cpu"}
# The modules that packages of NEEDED require beside those of NEEDED. They are looked for only where the
# package is not installed: one that is installed has its own, and another version may require others.
_TEXT = ("markdown_it", "mdurl", "pygments", "rich")
_PATHS = ("etils", "fsspec", "importlib_resources", "typing_extensions", "zipp")
_ORBAX = (
    *_PATHS,
    *("aiofiles", "google.protobuf", "humanize", "jaxlib", "msgpack", "opt_einsum", "prometheus_client"),
    *("psutil", "simplejson", "tensorstore", "uvloop"),
)
_TESTS = ("iniconfig", "pluggy", "pygments")
BROUGHT = {
    "chex": ("jaxlib", "opt_einsum", "toolz", "typing_extensions"),
    "flax": (*_ORBAX, *_TEXT, "treescope"),
    "jax": ("jaxlib", "opt_einsum"),
    "jaxtyping": ("wadler_lindig",),
    "matplotlib": ("contourpy", "cycler", "dateutil", "fontTools", "kiwisolver", "pyparsing", "tzdata"),
    "optax": ("jaxlib", "opt_einsum"),
    "orbax-checkpoint": _ORBAX,
    "pytest": _TESTS,
    "pytest-xdist": (*_TESTS, "execnet"),
    "tensorboardX": ("google.protobuf",),
}
_NAMES = {  # of distributions that are not called as their module
    "dateutil": "python-dateutil",
    "google.protobuf": "protobuf",
    "markdown_it": "markdown-it-py",
}


def lacking(needed: dict[str, str]) -> list[str]:
    """Returns the distributions whose module cannot be found.

    Args:
      needed: the distribution of each module.

    Example:
      >>> lacking({"json": "json", "no_such_module": "no-such-package"})
      ['no-such-package']
    """
    return [distribution for module, distribution in needed.items() if not _is_there(module)]


def brought(packages: Iterable[str]) -> dict[str, str]:
    """Returns the modules that packages need beside those of ``NEEDED``, each with its distribution.

    Args:
      packages: the distributions, of ``NEEDED``.

    Example:
      >>> brought(["tensorboardX", "tqdm"])
      {'google.protobuf': 'protobuf'}
    """
    return {module: _NAMES.get(module, module) for package in packages for module in BROUGHT.get(package, ())}


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def unpack(folder: pathlib.Path, wanted: Iterable[str], target: pathlib.Path) -> list[str]:
    """Unpacks the wheels of some distributions.

    Args:
      folder: the folder of wheels.
      wanted: the names of the distributions.
      target: the folder that the modules are unpacked into, for PYTHONPATH.

    Returns:
      The distributions that have no wheel in the folder.

    Raises:
      ValueError: a wheel is damaged, or is for another Python or platform.
    """
    wheels = {normal(path.name.split("-")[0]): path for path in sorted(folder.glob("*.whl"))}
    missing = []
    for name in wanted:
        if normal(name) not in wheels:
            missing.append(name)
            continue
        path = wheels[normal(name)]
        if not fits(path.name):
            version = "{}.{}".format(*sys.version_info)
            raise ValueError(f"{path} is not for Python {version} on this machine; take the wheel that is")
        try:
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(target)
        except zipfile.BadZipFile:
            raise ValueError(f"{path} is damaged: it is no zip file; download it again") from None
    return missing


def normal(name: str) -> str:
    """Returns the normalised name of a distribution, for comparison.

    Example:
      >>> normal("ML_Collections"), normal("PyYAML")
      ('ml-collections', 'pyyaml')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def fits(wheel: str) -> bool:
    """Returns whether a wheel's tags match this Python, and Linux or any platform.

    Example:
      >>> fits("beartype-0.23.1-py3-none-any.whl"), fits("faiss_cpu-1.9.0-cp27-cp27m-win32.whl")
      (True, False)
    """
    python, abi, platform = wheel.removesuffix(".whl").split("-")[-3:]
    number = "cp{}{}".format(*sys.version_info)
    python_matches = {"py3", "py2.py3", number} & {python, *python.split(".")}
    abi_matches = abi in ("none", "abi3", number) or abi.startswith(f"{number}.")
    stable = abi == "abi3" and bool(re.match(r"cp3\d+$", python)) and _minor(python) <= sys.version_info[1]
    return (bool(python_matches) or stable) and abi_matches and ("any" in platform or "linux" in platform)


def _minor(tag: str) -> int:
    return int(tag.removeprefix("cp3"))
