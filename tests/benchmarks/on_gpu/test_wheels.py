import sys
import zipfile

import pytest

from benchmarks.on_gpu.wheels import NEEDED, OPTIONAL, fits, lacking, unpack

CURRENT = "cp{}{}".format(*sys.version_info)


@pytest.fixture
def wheel(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()

    def make(name, module="module"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr(f"{module}/__init__.py", f"name = {name!r}\n")
        return folder

    return make


def test_only_what_is_wanted_is_unpacked(wheel, tmp_path):
    wheel("ml_collections-1.1.0-py3-none-any.whl", "ml_collections")
    folder = wheel("other-1.0-py3-none-any.whl", "other")
    assert unpack(folder, ["ML-Collections", "tensorboardX"], tmp_path / "site") == ["tensorboardX"]
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["ml_collections"]


def test_a_folder_that_is_not_there_has_no_wheels(tmp_path):
    assert unpack(tmp_path / "none", ["beartype"], tmp_path / "site") == ["beartype"]


def test_a_wheel_for_another_python_is_refused(wheel, tmp_path):
    folder = wheel("beartype-0.23.1-cp27-cp27m-manylinux1_x86_64.whl")
    with pytest.raises(ValueError, match=r"beartype-0.23.1-cp27.* is not for Python 3\.\d+ on this machine"):
        unpack(folder, ["beartype"], tmp_path / "site")


def test_a_damaged_wheel_is_refused(tmp_path):
    (tmp_path / "beartype-0.23.1-py3-none-any.whl").write_bytes(b"half of a download")
    with pytest.raises(ValueError, match="is damaged"):
        unpack(tmp_path, ["beartype"], tmp_path / "site")


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        (f"a-1-{CURRENT}-{CURRENT}-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-cp38-abi3-manylinux2014_x86_64.whl", True),
        ("a-1-cp399-abi3-manylinux2014_x86_64.whl", False),
        (f"a-1-{CURRENT}-{CURRENT}-win_amd64.whl", False),
        (f"a-1-{CURRENT}-{CURRENT}-macosx_11_0_arm64.whl", False),
        ("a-1-cp39-cp39-manylinux2014_x86_64.whl", False),
    ],
)
def test_a_wheel_fits_by_its_tags(name, does):
    assert fits(name) == does


def test_what_lacks_is_found_by_its_module():
    assert lacking({"json": "json", "no_such": "no-such", "no_such.inner": "inner"}) == ["no-such", "inner"]


def test_everything_that_is_needed_is_declared_by_the_project():
    """So that the list goes with pyproject.toml; the extras of tests are among them."""
    import pathlib
    import tomllib

    project = tomllib.loads((pathlib.Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {line.split(">")[0].split("[")[0] for line in [*project["dependencies"], *extras["test"]]}
    assert set(NEEDED.values()) - {"PyYAML"} == declared  # which ml_collections brings along
    assert set(OPTIONAL.values()) <= {line.split(">")[0] for line in extras["torch"]}
