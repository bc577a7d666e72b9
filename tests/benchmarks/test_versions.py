import json
import sys

import pytest

from benchmarks import versions
from benchmarks.versions import LOWEST, NEWEST, Requirement, lower_bound, main, parts, run_part, write_part

TESTS = """
import pytest

def test_a():
    pass

def test_b():
    assert False

def test_c():
    pytest.skip("no")

@pytest.fixture
def broken():
    raise OSError

def test_d(broken):
    pass
"""
NOTHING = {"passed": 0, "failed": 0, "skipped": 0, "failures": []}


def test_the_parts_are_the_whole_default_suite():
    covered = [path for paths in parts().values() for path in paths]
    assert len(set(covered)) == len(covered)
    for path in versions.ROOT.glob("tests/**/test_*.py"):
        name = path.relative_to(versions.ROOT).as_posix()
        assert [each for each in covered if name == each or name.startswith(f"{each}/")], name


@pytest.mark.parametrize("line", ["jax", "jax<0.13", "jax>=0.10,>=0.11"])
def test_a_requirement_without_one_lower_bound_is_refused(line):
    with pytest.raises(ValueError, match=r"needs one lower bound, as in jax>=1\.0"):
        lower_bound(Requirement(line))


def test_what_passed_failed_and_was_skipped_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    file = tmp_path / "test_some.py"
    file.write_text(TESTS)
    counts = run_part(sys.executable, [str(file)], [])
    failures = counts.pop("failures")
    assert counts == {"passed": 1, "failed": 2, "skipped": 1}
    assert [name.rpartition(".")[2] for name in failures] == ["test_b", "test_d"]


def make_script(path, *lines):
    """Makes what stands for a Python interpreter."""
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)
    return path


def test_a_part_without_tests_counts_none_and_one_that_cannot_run_is_an_error(tmp_path):
    write = "for word; do case $word in --junitxml=*) echo '<testsuites/>' >${word#*=};; esac; done"
    assert run_part(make_script(tmp_path / "none", write, "exit 5"), ["tests/gpu"], []) == NOTHING
    with pytest.raises(RuntimeError, match="pytest ended with status 4 in tests/missing"):
        run_part(make_script(tmp_path / "missing", "exit 4"), ["tests/missing"], [])


def test_parts_of_the_same_versions_are_kept_together(tmp_path):
    path, tried = tmp_path / "new" / "versions.json", {"python": "3.11.7", "versions": {"jax": "0.10.0"}}
    some = {**NOTHING, "passed": 3, "failed": 1, "failures": ["a"]}
    write_part(path, LOWEST, tried, "a", some)
    write_part(path, NEWEST, tried, "a", some)
    write_part(path, LOWEST, tried, "b", {**NOTHING, "passed": 2})
    written = json.loads(path.read_text())
    assert [written[LOWEST][name] for name in ("passed", "failed", "skipped")] == [5, 1, 0]
    assert list(written[LOWEST]["parts"]) == ["a", "b"]
    assert list(written[NEWEST]["parts"]) == ["a"]
    # Another version of anything: what passed before says nothing about it.
    write_part(path, LOWEST, {**tried, "versions": {"jax": "0.10.1"}}, "b", {**NOTHING, "passed": 2})
    assert json.loads(path.read_text())[LOWEST]["passed"] == 2


def test_a_run_ends_with_the_number_of_parts_that_failed(tmp_path, monkeypatch, capsys):
    ran = []

    def run_part(python, paths, options):
        ran.append((paths, options))
        return {**NOTHING, "failed": int(paths == ["tests/core"])}

    monkeypatch.setattr(versions, "install", lambda *arguments: {"jax": "0.10.0"})
    monkeypatch.setattr(versions, "run_part", run_part)
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    chosen = [f"--environment={environment}", f"--out={tmp_path / 'v.json'}", "--only=tests/core,README.md"]
    assert main([LOWEST, *chosen, "--", "-k", "some"]) == 1
    assert ran == [(["tests/core"], ["-k", "some"]), (["README.md"], ["-k", "some"])]
    assert capsys.readouterr().out.endswith("failed: tests/core\n")
    assert list(json.loads((tmp_path / "v.json").read_text())[LOWEST]["parts"]) == ["tests/core", "README.md"]
    assert main([NEWEST, *chosen[:2], "--only=README.md"]) == 0
    assert ran[-1] == (["README.md"], [])


def test_versions_that_do_not_fit_together_are_said_as_pip_says_it(tmp_path, monkeypatch):
    words = ("echo 'WARNING: something'", "echo 'ERROR: no pyarrow 15 for numpy 2'")
    refusing = make_script(tmp_path / "python", *words, "exit 1")
    project = {"name": "shop", "dependencies": ["numpy>=2.1"], "optional-dependencies": {}}
    with pytest.raises(RuntimeError, match="^pip ended with:\nERROR: no pyarrow 15 for numpy 2$"):
        versions.install(refusing, LOWEST, project, [])
