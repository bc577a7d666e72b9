"""The documentation names modules, files and public names that exist, and leaves no room out."""

import json
import pathlib
import re

import pytest

import gradrev_jax

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "gradrev_jax"
PAGES = sorted(
    [*map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *(ROOT / "docs").rglob("*.md")]
)
FOLDERS = ("", "benchmarks/", "configs/", "docs/", "examples/", "gradrev_commands/", "gradrev_jax/", "tests/")
SUFFIXES = ("py", "sh", "ipynb", "cff", "toml")


def documented(page):
    return re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api" / f"{page}.md").read_text(), re.MULTILINE)


def test_the_nav_has_the_page_of_every_room():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert rooms
    for room in rooms:
        assert f"- {room}: api/{room}.md\n" in nav


def test_the_first_api_page_has_the_public_names():
    names = [name.rsplit(".", 1)[1] for name in documented("index")]
    assert set(gradrev_jax.__all__) <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    suffixes = "|".join(SUFFIXES)
    named = set(
        re.findall(rf"`(?:python |bash )?([\w/]+\.(?:{suffixes}))\b", page.read_text(encoding="utf-8"))
    )
    assert [name for name in named if not any((ROOT / folder / name).is_file() for folder in FOLDERS)] == []


def test_the_house_has_the_modules_that_it_names_and_names_those_that_it_has():
    block = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("```")[1]
    inside = block.split("gradrev_jax/\n")[1]
    room, named = None, set()
    for line in inside.splitlines():
        indent, names = re.match(r"( *)([\w./]+(?:, [\w./]+)*)", line).groups()
        if len(indent) == 2:
            room = names
        else:
            named |= {PACKAGE / room / name for name in names.split(", ")}
    assert [place for place in named if not (place.exists() or place.with_suffix(".py").exists())] == []
    modules = [path.with_suffix("") for path in PACKAGE.glob("*/**/*.py") if path.stem != "__init__"]
    assert [module for module in modules if not named & {module, *module.parents}] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_results_of_another_machine_than_the_usual_one_name_it(page):
    """The usual one is that of the first lines of docs/results.md."""
    text = page.read_text(encoding="utf-8")
    unnamed = []
    for section in re.split(r"^(?=##+ )", text, flags=re.MULTILINE):
        cited = {*re.findall(r"(\w+)\.json", section), *re.findall(r"<!-- (\w+)", section)}
        for path in (ROOT / "benchmarks" / "results" / f"{name}.json" for name in cited):
            processor = json.loads(path.read_text()).get("processor", "") if path.is_file() else ""
            if "Xeon" in (processor or "") and "Xeon" not in section + text.split("\n## ")[0]:
                unnamed.append((section.splitlines()[0], path.name))
    assert unnamed == []
