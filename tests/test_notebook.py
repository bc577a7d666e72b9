"""The notebook of examples/ runs from its first cell to its last, and its edit does what it says."""

import ast
import pathlib
import sys

import jax
import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "edit_and_search.ipynb"
SMALL = {
    "data.count": 400,
    "model.width": 1 / 16,
    "model.feature_dim": 16,
    "train.batch_size": 16,
    "train.epochs": 10,
}


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_valid_and_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.long
def test_the_notebook_finds_what_it_asks_for_more_often_than_without_the_edit(
    notebook, tmp_path, monkeypatch
):
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = f"overrides = {SMALL!r}"
    notebook.cells.append(nbformat.v4.new_code_cell("{s: share['asked'] for s, share in shares.items()}"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the folder of its run
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # this package, wherever another is installed
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(ROOT / jax.config.jax_compilation_cache_dir))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    kernel = client.create_kernel_manager()
    kernel.kernel_spec.argv[0] = sys.executable  # this environment, whatever kernel is registered
    client.execute()
    asked = ast.literal_eval(notebook.cells[-1].outputs[0].data["text/plain"])
    assert asked[1.0] > asked[0.0] + 0.1
    assert asked[2.0] > asked[0.0] + 0.3
