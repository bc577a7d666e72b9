"""The rules of docs/design.md that ruff and import-linter do not know."""

import ast
import pathlib
import subprocess
import sys

import pytest

import gradrev_jax

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE, COMMANDS = ROOT / "gradrev_jax", ROOT / "gradrev_commands"
MODULES = sorted([*PACKAGE.rglob("*.py"), *COMMANDS.rglob("*.py")])
ROOMS = {
    "core",
    "search",
    "models",
    "data",
    "weights",
    "systems",
    "runs",
    "training",
    "evaluation",
    "serving",
}
LONGEST_FUNCTION, MOST_PARAMETERS, LONGEST_MODULE = 60, 8, 300
DRAWING = ("figures.py", "drawing.py")


def named(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """Top names of all that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module.split(".")[0]


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_the_package_has_its_rooms_and_little_besides():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    modules = {"__init__.py", "errors.py", "files.py", "distributed.py", "progress.py"}
    assert entries - {"py.typed"} == ROOMS | modules
    for folder in [PACKAGE, COMMANDS, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        if folder.name not in ("__pycache__", "static"):  # the latter has the page, and no Python
            sentence = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
            assert sentence.split("\n\n")[0].endswith("."), folder


def test_a_config_dict_stops_at_what_builds_objects_of_it():
    """So that pure code, and code that takes objects, can be called without a config."""
    knows = {named(path) for path in MODULES if "ml_collections" in set(imports(path))}
    inputs = ("embedded_images", "frozen_backbone", "inputs", "pixels", "starting_weights")
    names = ("builders", "config_check", "formats", "overrides", "protocol", *inputs)
    runs = {f"gradrev_jax/runs/{name}.py" for name in names}
    training = {
        f"gradrev_jax/training/{name}.py"
        for name in ("adversaries", "opening", "run", "stages", "torch_runs")
    }
    systems = {
        f"gradrev_jax/systems/{name}.py"
        for name in ("amnet/system", "backbone", "fsn/system", "gamma", "gradrev", "system")
    }
    commands = {f"gradrev_commands/{name}.py" for name in ("cli", "config_files", "optional_fields")}
    serving = {f"gradrev_jax/serving/{name}.py" for name in ("gallery_catalogue", "network", "opening")}
    others = {"gradrev_jax/evaluation/opening.py", "gradrev_jax/runs/fields/table.py"}
    assert knows == systems | runs | training | serving | commands | others


def test_the_torch_reference_knows_nothing_of_the_package():
    modules = sorted(ROOT.glob("benchmarks/torch_reference/*.py"))
    assert modules
    for path in modules:
        assert "gradrev_jax" not in set(imports(path)), path


def test_every_progress_bar_is_that_of_one_module():
    """It knows where a bar can be drawn, and writes none into files."""
    programs = [
        *MODULES,
        *ROOT.glob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    assert {named(path) for path in programs if "tqdm" in set(imports(path))} == {"gradrev_jax/progress.py"}


def test_modules_functions_and_signatures_stay_short():
    long_modules, long_functions, wide = [], [], []
    for path in MODULES:
        if len(path.read_text().splitlines()) > LONGEST_MODULE:
            long_modules.append(named(path))
        for node in functions(path):
            place = f"{named(path)}:{node.lineno} {node.name}"
            if node.end_lineno - node.lineno >= LONGEST_FUNCTION and path.name not in DRAWING:
                long_functions.append(place)
            a = node.args
            names = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs) if arg.arg != "self"]
            if len([name for name in names if name != "cls"]) > MOST_PARAMETERS:
                wide.append(place)
    assert (long_modules, long_functions, wide) == ([], [], [])


def test_the_scripts_of_the_project_only_call_their_command():
    for name in ("train", "evaluate", "export_model", "generate_splits", "index", "serve"):
        assert f"from gradrev_commands.{name} import main" in (ROOT / f"{name}.py").read_text()
        assert len((ROOT / f"{name}.py").read_text().splitlines()) < 10


def test_all_public_names_are_there_and_documented_with_an_example():
    for name in gradrev_jax.__all__:
        public = getattr(gradrev_jax, name)
        assert public.__doc__, name
        assert ">>>" in public.__doc__ or name in ("EncoderOutput", "Neighbors"), f"{name} has no example"
    with pytest.raises(AttributeError, match="no attribute 'Alexnet'"):
        _ = gradrev_jax.Alexnet


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
