"""The code of docs/extending.md, put where the page says, trains and evaluates a run that uses all of it."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
TINY = (
    "--config.data.format=folders --config.data.test_fraction=0.4 --config.data.image_size=63 "
    "--config.model.backbone=tiny --config.model.tap=pooled --config.model.feature_dim=4 "
    "--config.reversal.weighting=capped --config.train.feature_norm_weight=0.5 --config.train.batch_size=8 "
    "--config.train.epochs=1 --config.train.log_every=1 --config.protocol.ks=(1,3) "
    "--config.protocol.representation=direction --config.model.system=same_length "
    "--config.stages=('encoder','memory') --config.memory.triplets=16 --config.memory.batch_size=8 "
    "--config.memory.epochs=1"
).split()


def blocks():
    """(first line, code) of every block of Python on the page."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n# (.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(found) == page.count("```python") == 18
    return found


def apply(place, code, root):
    """Puts a block into a copy of the package; returns the file."""
    if entry := re.fullmatch(r"in (\w+) of (\S+)", place):
        file = root / entry[2]
        before, after = re.split(rf"(?<=\n){entry[1]}\b[^\n]*= \{{\n", file.read_text(), maxsplit=1)
        start = file.read_text()[len(before) : -len(after)]
        file.write_text(before + start + code + after)
    elif imported := re.fullmatch(r"imports of (\S+)", place):
        file = root / imported[1]
        file.write_text(file.read_text().replace("\nfrom gradrev_jax", f"\n{code}from gradrev_jax", 1))
    elif added := re.fullmatch(r"in (\S+)", place):
        file = root / added[1]  # before what has the registry, and after what the imports bring
        registry = r"\n(?=(?:# [^\n]*\n)*(?:TERMS|WEIGHTINGS|METRICS|REPRESENTATIONS|FORMATS)\b[^\n]*= \{)"
        before, after = re.split(registry, file.read_text(), maxsplit=1)
        file.write_text(f"{before}\n{code}\n\n{after}")
    else:
        file = root / place
        assert not file.exists()
        file.write_text(code)
    return file


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the package with all extensions, and what was touched, for each registry."""
    root = tmp_path_factory.mktemp("extended")
    for name in ("gradrev_jax", "gradrev_commands", "configs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    touched = [str(apply(place, code, root).relative_to(root)) for place, code in blocks()]
    return root, touched


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for value, level in (("dark", 40), ("light", 200)):
        (root / value).mkdir()
        for number in range(20):
            pixels = np.full((63, 63, 3), level, np.uint8) + rng.integers(0, 30, 3, dtype=np.uint8)
            Image.fromarray(pixels).save(root / value / f"{number}.png")
    return root


def test_the_table_counts_the_files_that_are_touched(extended):
    _, touched = extended
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    counts = [int(row) for row in re.findall(r"^\| a.*\| (\d) \|$", page, re.MULTILINE)]
    assert counts == [1, 1, 1, 1, 2, 2, 2]
    assert len(set(touched)) == sum(counts)


@pytest.mark.long
def test_a_run_that_uses_every_extension(extended, images, tmp_path):
    root, _ = extended
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def run(command, *arguments):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                f"gradrev_commands.{command}",
                f"--workdir={tmp_path / 'run'}",
                *arguments,
            ],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    cache = f"--config.data.cache_dir={tmp_path / 'cache'}"
    run("train", "--config=catalogue", *TINY, f"--config.data.root={images}", cache)
    assert "reciprocal_rank" in run("evaluate")
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [step for step in steps if "loss_feature_norm" in step]
    assert logged
    for step in logged:
        assert step["w_rev"] == 0, "a single attribute has no other to unlearn"
        np.testing.assert_allclose(
            step["loss"], step["loss_cls"] + 0.5 * step["loss_feature_norm"], rtol=1e-5
        )
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    first, third = metrics["reciprocal_rank"]["1"], metrics["reciprocal_rank"]["3"]
    assert first == metrics["hit_rate"]["1"] <= third <= metrics["hit_rate"]["3"]
    assert metrics["intervals"]["reciprocal_rank"]["3"][0] <= third
    assert json.loads((tmp_path / "run" / "schema.json").read_text())["names"] == ["kind"]
