"""Leaves out of the collection what needs a package that is not installed."""

import importlib.util

NEEDS = {
    "torch": [
        *("benchmarks/torch_reference", "benchmarks/side_by_side/torch_side.py"),
        *("tests/parity/make_golden.py", "tests/parity/reference.py"),
    ],
    "uvicorn": [
        *("gradrev_jax/serving/web", "tests/serving/web", "tests/serving/page"),
        *("tests/benchmarks/test_serving.py", "tests/commands/test_serve.py"),
    ],
    "playwright": ["tests/serving/page"],
    "faiss": ["benchmarks/torch_reference/retrieval.py"],
    "tensorflow_datasets": [
        f"gradrev_jax/data/formats/tfds/{name}.py" for name in ("features", "images", "shopping100k")
    ],
}
collect_ignore = [
    path for package, paths in NEEDS.items() if importlib.util.find_spec(package) is None for path in paths
]
