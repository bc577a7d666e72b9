"""The rules of docs/design.md that a machine can check: who imports whom, and how long files grow."""

import ast
import pathlib
import subprocess
import sys

import pytest

import gradrev_jax

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "gradrev_jax"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
GROUND = {
    *("arguments", "attributes", "gradient_reversal", "losses", "manipulation", "memory_losses", "metrics"),
    *("retrieval", "bootstrap", "triplet_losses", "vectors", "metric_arguments", "manipulation_products"),
    *("manipulation_candidates", "manipulation_search", "manipulation_index", "manipulation_sharding"),
    "manipulation_edits",
}
RIM = {
    "settings",
    "workdir",
    "errors",
    "checkpoints",
    "data",
    "models",
    "optimizers",
    "manipulation_retrieval",
    "config_check",
    "new_folder",
    "paths",
    "processes",
    "fingerprints",
    "run_images",
    "metrics_log",
    "drift",
    "notes",
}
# Part of the package -> the other parts it may import.
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "errors": set(),
    "file_kinds": set(),
    "paths": {"errors"},
    "terminal": set(),
    "config_files": {"errors", "paths"},
    "tensor_pickle": {"errors"},
    "torch_files": {"errors", "file_kinds", "tensor_pickle", "torch_legacy"},
    "torch_legacy": {"errors", "tensor_pickle"},
    "torch_writer": {"errors", "tensor_pickle"},
    "models": GROUND | {"errors", "processes", "torch_files"},
    "data": {"attributes", "errors", "file_kinds", "new_folder", "paths", "terminal"},
    "new_folder": {"errors"},
    "index_files": GROUND | {"errors", "new_folder"},
    "processes": {"errors"},
    "checkpoints": {"errors", "file_kinds", "processes"},
    "notes": {"processes"},
    "workdir": {"attributes", "errors"},
    "metrics_log": {"workdir"},
    "fingerprints": {"data", "errors", "workdir"},
    "drift": {"attributes", "data", "errors", "fingerprints"},
    "optimizers": set(),
    "manipulation_retrieval": GROUND | {"data", "errors", "processes"},
    "settings": GROUND | {"errors", "data", "models", "notes", "optimizers", "paths"},
    "run_images": {"data", "errors", "paths"},
    "config_check": GROUND | {"settings", "errors", "data", "models", "optimizers"},
    "training": GROUND | RIM | {"trained", "torch_files", "torch_writer"},
    "trained": GROUND | RIM,
    "evaluation": GROUND | RIM | {"trained"},
    "cli": {"config_files", "errors", "paths", "processes", "terminal", "workdir"},
    "compare": {"cli", "evaluation"},
    "image_cache": {"cli", "data", "errors", "run_images"},
    "import_torch": {"cli", "training"},
    "export_torch": {"cli", "settings", "torch_writer", "training"},
    "__init__": GROUND | {"models"},
}
GROUND_LIBRARIES = {
    *(
        "collections",
        "concurrent",
        "dataclasses",
        "difflib",
        "functools",
        "itertools",
        "operator",
        "os",
        "types",
        "typing",
    ),
    *("jax", "jaxtyping", "numpy", "gradrev_jax"),
}


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Full dotted names of all that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_parts(path):
    names = [name.split(".") for name in imports(path)]
    parts = {name[1] for name in names if name[0] == "gradrev_jax" and len(name) > 1}
    return {name for name in parts if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_floor_imports_only_what_lies_below(path):
    assert own_parts(path) - {part(path)} <= MAY_IMPORT[part(path)]


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) in GROUND], ids=named)
def test_the_ground_floor_knows_neither_files_nor_frameworks(path):
    assert {name.split(".")[0] for name in imports(path)} <= GROUND_LIBRARIES


def test_a_config_dict_stops_at_the_entry_functions():
    knows = {named(path) for path in MODULES if "ml_collections" in {n.split(".")[0] for n in imports(path)}}
    training = {"training/loop.py", "training/stages.py", "training/torch_runs.py"}
    entries = {
        "run_images.py",
        "cli.py",
        "config_check.py",
        "config_files.py",
        "settings.py",
        "evaluation/run.py",
        *training,
    }
    assert knows == {f"gradrev_jax/{name}" for name in entries}


def test_torch_and_tensorflow_are_imported_nowhere():
    for path in [*MODULES, *ROOT.glob("*.py"), *ROOT.glob("configs/*.py")]:
        assert not {"torch", "tensorflow"} & {name.split(".")[0] for name in imports(path)}, path


def test_the_torch_reference_knows_nothing_of_the_package():
    modules = sorted(ROOT.glob("benchmarks/torch_reference/*.py"))
    assert modules
    for path in modules:
        assert "gradrev_jax" not in {name.split(".")[0] for name in imports(path)}, path


def test_files_stay_short():
    long = {named(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}
    for name in ("train.py", "evaluate.py", "generate_splits.py"):
        assert len((ROOT / name).read_text().splitlines()) < 70


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name not in ("__init__.py", "errors.py")], ids=named
)
def test_every_module_has_its_test_file(path):
    relative = path.relative_to(PACKAGE)
    assert (ROOT / "tests" / relative.parent / f"test_{path.name}").is_file()


def test_all_public_names_are_there_and_documented_with_an_example():
    for name in gradrev_jax.__all__:
        public = getattr(gradrev_jax, name)
        assert public.__doc__, name
        assert ">>>" in public.__doc__ or name in ("EncoderOutput", "Neighbors"), f"{name} has no example"
    with pytest.raises(AttributeError, match="no attribute 'Alexnet'"):
        _ = gradrev_jax.Alexnet


def test_every_field_of_the_config_is_read_somewhere():
    from configs import default

    code = "\n".join(path.read_text() for path in MODULES)
    for section, fields in default.get_config().to_dict().items():
        for field in fields if isinstance(fields, dict) else (section,):
            reads = (f".{field}", f'{section}.{field}"') if isinstance(fields, dict) else (f"config.{field}",)
            assert any(read in code for read in reads), f"{section}.{field} is read nowhere"


def test_a_pure_function_costs_no_flax_no_tensorflow_and_no_file():
    script = """
import builtins, sys, jax
opened = []
real = builtins.open
builtins.open = lambda *arguments, **options: opened.append(arguments[0]) or real(*arguments, **options)
from gradrev_jax import reverse_gradient
heavy = {"flax", "optax", "orbax", "tensorflow", "torch", "ml_collections", "absl", "PIL", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not opened, opened
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
