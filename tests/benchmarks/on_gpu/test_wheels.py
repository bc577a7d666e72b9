import importlib.metadata
import pathlib
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

from benchmarks.on_gpu.wheels import BROUGHT, NEEDED, OPTIONAL, brought, fits, lacking, normal, unpack

ROOT = pathlib.Path(__file__).parents[3]
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
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {line.split(">")[0].split("[")[0] for line in [*project["dependencies"], *extras["test"]]}
    assert set(NEEDED.values()) - {"PyYAML"} == declared  # which ml_collections brings along
    assert set(OPTIONAL.values()) <= {line.split(">")[0] for line in extras["torch"]}


def is_constrained(name):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normal(line.split("==")[0]): line.split("==")[1].split()[0] for line in lines if "==" in line}
    return importlib.metadata.version(name) == pinned.get(normal(name))


of_these_versions = pytest.mark.skipif(
    not all(map(is_constrained, NEEDED.values())), reason="versions beside constraints.txt may require others"
)


def required(name, extras=()):
    """The distributions that an installed one requires here, each with the extras that are asked of it."""
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement.name, tuple(sorted(requirement.extras))


@of_these_versions
@pytest.mark.parametrize("package", NEEDED.values())
def test_what_a_needed_package_requires_comes_with_it(package):
    found, ahead = set(), [(package, ())]
    while ahead:
        if (each := ahead.pop()) not in found:
            found.add(each)
            ahead += required(*each)
    there = {normal(name) for name in (*NEEDED.values(), *brought([package]).values())}
    assert {normal(name) for name, _ in found} <= there


@of_these_versions
def test_what_comes_along_is_brought_by_something_and_its_module_is_there():
    modules = brought(NEEDED.values())
    assert not {*modules} & {*NEEDED}
    assert {name for names in BROUGHT.values() for name in names} == {*modules}
    assert lacking(modules) == []
    distributions = importlib.metadata.packages_distributions()
    for module, name in modules.items():
        if module != "google.protobuf":  # google is shared by several
            assert normal(name) in {normal(each) for each in distributions[module]}


def test_the_requirements_of_what_is_there_are_not_asked_for():
    assert brought(["tqdm"]) == {}
    assert brought(["jaxtyping"]) == {"wadler_lindig": "wadler_lindig"}
    assert set(brought(["pytest-xdist"]).values()) >= {"execnet", "pluggy", "iniconfig"}
