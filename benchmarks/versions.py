"""Runs the tests with the lowest versions that pyproject.toml allows, or with the newest.

    python -m benchmarks.versions lowest --python=python3.11
    python -m benchmarks.versions newest --python=python3.13 --only=tests/core,tests/test_files.py -- -x
    python -m benchmarks.versions newest --extras=test,mlflow,trackio,wandb --only=tests/runs/loggers

Installs the package and the extras of its tests in an environment of its own: with exactly the lower bound of
each requirement, or with what pip finds newest. What these packages need in turn is up to pip. Then runs the
tests part by part, and with --out writes after each part how many passed, with the versions of all that was
asked for. Options after ``--`` go to pytest. `make versions` runs both, before a release.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
LOWEST, NEWEST = "lowest", "newest"
EXTRAS = ("dev", "text")
# No test imports the tools of `make lint`, and what they say differs from version to version.
LEFT_OUT = ("lint",)
# Installed without what they ask for, none of which is used; pyproject.toml says so.
ALONE = ("text",)
DOCTESTS = ("gradrev_jax", "gradrev_commands", "benchmarks", "README.md")
NO_TESTS = 5  # pytest's exit status where every test is deselected, as in tests/gpu


def requirements(project: Mapping[str, Any], extras: Iterable[str]) -> list[Requirement]:
    """Returns the requirements of a project here, with extras, and those of its own extras that these name.

    Args:
      project: the table ``project`` of pyproject.toml.
      extras: the names of the extras.

    Raises:
      KeyError: there is no such extra.

    Example:
      >>> own = {"all": ["shop[test]", "rich>=13"], "test": ["pytest>=8.0"], "win": ["x>=1; os_name == 'nt'"]}
      >>> project = {"name": "shop", "dependencies": ["numpy>=2.1"], "optional-dependencies": own}
      >>> [str(each) for each in requirements(project, ["all", "win"])]
      ['numpy>=2.1', 'pytest>=8.0', 'rich>=13']
    """
    return [*_applying(project["dependencies"]), *requirements_of_extras(project, extras)]


def requirements_of_extras(project: Mapping[str, Any], extras: Iterable[str]) -> Iterator[Requirement]:
    """Yields what extras ask for here, besides what the project asks for without them.

    Args:
      project: the table ``project`` of pyproject.toml.
      extras: the names of the extras; those in ``LEFT_OUT`` are left out.

    Raises:
      KeyError: there is no such extra.

    Example:
      >>> project = {"name": "shop", "optional-dependencies": {"test": ["pytest>=8.0"]}}
      >>> [each.name for each in requirements_of_extras(project, ["test", "lint"])]
      ['pytest']
    """
    for extra in extras:
        if extra in LEFT_OUT:
            continue
        for requirement in _applying(project["optional-dependencies"][extra]):
            if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
                yield from requirements_of_extras(project, sorted(requirement.extras))
            else:
                yield requirement


def _applying(lines: Iterable[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def lower_bound(requirement: Requirement) -> str:
    """Returns the lowest version that a requirement allows.

    Args:
      requirement: has one bound with ``>=``, ``==`` or ``~=``.

    Raises:
      ValueError: it has none, or several.

    Example:
      >>> lower_bound(Requirement("jax[cuda12]>=0.10,<0.13"))
      '0.10'
    """
    bounds = [each.version for each in requirement.specifier if each.operator in (">=", "==", "~=")]
    if len(bounds) != 1:
        raise ValueError(
            f"{requirement} in pyproject.toml needs one lower bound, as in {requirement.name}>=1.0"
        )
    return bounds[0]


def install(
    python: pathlib.Path, which: str, project: Mapping[str, Any], extras: Sequence[str]
) -> dict[str, str]:
    """Installs the package of this folder and what it asks for; returns the versions of the latter.

    Args:
      python: the interpreter of an environment.
      which: ``lowest`` or ``newest``.
      project: the table ``project`` of pyproject.toml.
      extras: the names of the extras.

    Raises:
      RuntimeError: pip found no versions that fit together; the message has its last words.
    """
    build = [Requirement(line) for line in _pyproject()["build-system"]["requires"]]
    alone = list(requirements_of_extras(project, [extra for extra in extras if extra in ALONE]))
    others = requirements(project, [extra for extra in extras if extra not in ALONE])
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off"]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: pathlib.Path(folder) / f"{name}.txt" for name in ("constraint", "build-constraint")}
        for file, bounded in zip(files.values(), ([*others, *alone], build), strict=True):
            pins = [f"{each.name}=={lower_bound(each)}\n" for each in bounded]
            file.write_text("".join(pins) if which == LOWEST else "", encoding="utf-8")
        pip += [f"--{name}={file}" for name, file in files.items()]
        _pip([*pip, "--upgrade", "--upgrade-strategy=eager", *map(str, others)])
        _pip([*pip, "--upgrade", "--no-deps", *map(str, alone), "-e", "."])
    return _installed(python, [each.name for each in [*others, *alone]])


def _pip(command: Sequence[str]) -> None:
    done = _run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        words = [line for line in done.stdout.splitlines() if line and not line.startswith("WARNING")]
        raise RuntimeError("pip ended with:\n" + "\n".join(words[-25:]))


def _installed(python: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    listed = _run([str(python), "-m", "pip", "list", "--format=json"], stdout=subprocess.PIPE).stdout
    versions = {canonicalize_name(each["name"]): each["version"] for each in json.loads(listed)}
    return {name: versions[canonicalize_name(name)] for name in sorted(set(names), key=str.lower)}


def _run(command: Sequence[str], *, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, check=check, cwd=ROOT, env=surroundings, text=True, **options)


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def parts() -> dict[str, list[str]]:
    """Returns the parts of the default suite, by name: the paths that pytest gets.

    Example:
      >>> parts()["tests/core"]
      ['tests/core']
      >>> list(parts())[-1]
      'README.md'
    """
    folders = [path for path in sorted((ROOT / "tests").iterdir()) if any(path.rglob("test_*.py"))]
    names = [path.relative_to(ROOT).as_posix() for path in folders]
    files = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("tests/test_*.py"))]
    return {name: [name] for name in names} | {"tests": files} | {name: [name] for name in DOCTESTS}


def run_part(python: pathlib.Path, paths: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    """Runs some tests; returns how many passed, failed and were skipped, and the names of those that failed.

    Args:
      python: the interpreter of an environment.
      paths: folders or files, from the root of the checkout.
      options: further options of pytest.

    Raises:
      RuntimeError: pytest ended before its tests did.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = pathlib.Path(folder) / "tests.xml"
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={written}"]
        status = _run([*command, *options, *paths], check=False).returncode
        if status not in (0, 1, NO_TESTS):
            raise RuntimeError(f"pytest ended with status {status} in {', '.join(paths)}")
        return read_counts(written.read_text(encoding="utf-8"))


def read_counts(text: str) -> dict[str, Any]:
    """Returns how many tests passed, failed and were skipped, and the names of those that failed.

    Args:
      text: what pytest writes for ``--junitxml``.

    Example:
      >>> case = '<testcase classname="tests.core" name="{}">{}</testcase>'
      >>> cases = [case.format("a", ""), case.format("b", "<failure/>"), case.format("c", "<skipped/>")]
      >>> read_counts(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
      {'passed': 1, 'failed': 1, 'skipped': 1, 'failures': ['tests.core.b']}
    """
    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in xml.etree.ElementTree.fromstring(text).iter("testcase"):
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        outcomes[outcome].append(f"{case.get('classname')}.{case.get('name')}")
    return {name: len(cases) for name, cases in outcomes.items()} | {"failures": outcomes["failed"]}


def write_part(path: pathlib.Path, which: str, tried: Mapping[str, Any], part: str, counts: Any) -> None:
    """Writes what a part gave beside the other parts that were run with the same versions.

    Args:
      path: the JSON file; it keeps what it has of other choices of versions.
      which: the choice of versions.
      tried: what the tests ran with: ``python`` and ``versions``.
      part: the name of the part.
      counts: what ``run_part`` returned.
    """
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    before = result.get(which, {})
    same = all(before.get(name) == value for name, value in tried.items())
    done = {**(before["parts"] if before and same else {}), part: counts}
    totals = {name: sum(each[name] for each in done.values()) for name in ("passed", "failed", "skipped")}
    result[which] = {"date": datetime.date.today().isoformat(), **tried, **totals, "parts": done}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs, runs the tests, and returns how many parts have tests that failed.

    Args:
      arguments: the command line; None: that of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("which", choices=[LOWEST, NEWEST])
    parser.add_argument("--python", default=sys.executable, help="interpreter to make the environment with")
    parser.add_argument("--environment", type=pathlib.Path, help="folder to keep it in, and to use again")
    parser.add_argument("--extras", default=",".join(EXTRAS), help="extras to install, with commas")
    parser.add_argument("--only", default=",".join(parts()), help="parts or other paths to run, with commas")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write; parts that it has are kept")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given = parser.parse_args(arguments[:end])
    try:
        failing = run(given, arguments[end + 1 :])
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"failed: {', '.join(failing)}" if failing else f"{given.which}: ok")
    return len(failing)


def run(given: argparse.Namespace, options: Sequence[str]) -> list[str]:
    """Installs and runs the tests; returns the parts with tests that failed.

    Args:
      given: what ``main`` reads from the command line.
      options: further options of pytest.

    Raises:
      RuntimeError: the versions do not fit together, or pytest ended before its tests did.
    """
    chosen = {name: parts().get(name, [name]) for name in given.only.split(",")}
    failing, extras = [], given.extras.split(",")
    which = given.which if tuple(extras) == EXTRAS else f"{given.which}, {given.extras}"
    with tempfile.TemporaryDirectory() as scratch:
        environment = (given.environment or pathlib.Path(scratch) / "environment").resolve()
        python = environment / "bin" / "python"
        if not python.exists():
            _run([given.python, "-m", "venv", str(environment)])
            _run([str(python), "-m", "pip", "install", "--quiet", "--upgrade", "pip"])
        versions = install(python, given.which, _pyproject()["project"], extras)
        asked = "import platform; print(platform.python_version())"
        release = _run([str(python), "-c", asked], stdout=subprocess.PIPE).stdout.strip()
        print(f"Python {release}", *(f"{name} {version}" for name, version in versions.items()), sep=", ")
        for name, paths in chosen.items():
            print(f"== {name}", flush=True)
            counts = run_part(python, paths, options)
            if given.out:
                write_part(given.out, which, {"python": release, "versions": versions}, name, counts)
            failing += [name] * bool(counts["failed"])
    return failing


if __name__ == "__main__":
    sys.exit(main())
