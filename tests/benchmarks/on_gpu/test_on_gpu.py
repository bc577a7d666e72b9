import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks.on_gpu import __main__ as on_gpu
from benchmarks.on_gpu.plan import Step, plan

ROOT = pathlib.Path(__file__).parents[3]


def python(code):
    return sys.executable, "-c", code


# Each of them ends in another way; the log of the second must stay, and the last must run.
STEPS = [
    Step("fails", python("print('half done'); raise RuntimeError('out of memory')"), 30, None),
    Step("hangs", python("import time; print('begun', flush=True); time.sleep(60)"), 2, None),
    Step("crashes", python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), 30, None),
    Step("works", python("print('all is well')"), 30, None),
]


@pytest.fixture
def here(monkeypatch):
    """Nothing lacks, and JAX finds a CPU, without a process that looks."""
    monkeypatch.setattr(on_gpu, "provide", lambda wheels, target: None)
    device = {"platform": "cpu", "kind": "cpu", "machine": "cpu"}
    monkeypatch.setattr(on_gpu, "find_device", lambda environment: (device, ""))


def test_whatever_a_step_does_the_others_run_and_the_summary_is_there(here, tmp_path, capsys):
    assert on_gpu.main([str(tmp_path), "--dry-run"], STEPS) == 1
    printed = capsys.readouterr().out
    for line in (
        "| fails | failed: RuntimeError: out of memory |",
        "| hangs | killed at its limit |",
        "| crashes | failed: exit status -9 |",
        "| works | ok |",
    ):
        assert line in printed
        assert line in (tmp_path / "summary.md").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert all(line in log for line in ("half done", "begun", "all is well"))


def test_only_some_steps(here, tmp_path, capsys):
    assert on_gpu.main([str(tmp_path), "--dry-run", "--only", "works"], STEPS) == 0
    assert "| fails |" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        on_gpu.main([str(tmp_path), "--only", "wroks"], STEPS)
    assert "no step is called wroks; there are fails, hangs, crashes, works" in capsys.readouterr().err


def test_when_the_time_is_up_no_step_begins(here, tmp_path, capsys):
    assert on_gpu.main([str(tmp_path), "--dry-run", "--minutes=0.01"], STEPS) == 1
    assert capsys.readouterr().out.count("not run: no time left") == 2 * len(STEPS)


def test_without_a_gpu_it_says_so_and_writes_nothing(here, tmp_path, capsys, monkeypatch):
    assert on_gpu.main([str(tmp_path / "out")], STEPS) == 3
    assert capsys.readouterr().err.startswith("No GPU: JAX finds only cpu here.")
    monkeypatch.setattr(
        on_gpu, "find_device", lambda environment: ({}, "JAX does not start here (no driver)")
    )
    assert on_gpu.main([str(tmp_path / "out")], STEPS) == 3
    assert "JAX does not start here (no driver)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_packages_that_lack_are_named_with_what_fetches_them(tmp_path, monkeypatch, capsys):
    needed = {"json": "json", "no_such_module": "no-such-package"}
    monkeypatch.setattr(on_gpu, "NEEDED", needed)
    assert on_gpu.main([str(tmp_path / "out"), f"--wheels={tmp_path}"], STEPS) == 2
    error = capsys.readouterr().err
    assert f"lacks no-such-package, and {tmp_path} has no wheels of them" in error
    assert "pip download --no-deps -d wheels no-such-package" in error


@pytest.mark.parametrize("name", ["log.txt", "summary.md", "compare_cpu.json"])
def test_an_earlier_run_is_not_written_over(here, tmp_path, name, capsys):
    (tmp_path / name).write_text("of yesterday")
    with pytest.raises(SystemExit) as stopped:
        on_gpu.main([str(tmp_path), "--dry-run", "--only", "works"], STEPS)
    assert stopped.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path} has results of an earlier run ({name}); name a new folder, or move them away" in error
    assert (tmp_path / name).read_text() == "of yesterday"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_no_result_may_lie_in_the_folder(here, tmp_path):
    (tmp_path / "console.txt").write_text("")  # as of: bash benchmarks/on_gpu.sh OUT | tee OUT/console.txt
    assert on_gpu.main([str(tmp_path), "--dry-run", "--only", "works"], STEPS) == 0


def test_a_file_is_no_folder_of_results(here, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    with pytest.raises(SystemExit):
        on_gpu.main([str(tmp_path / "out"), "--dry-run"], STEPS)
    assert f"{tmp_path / 'out'} is no folder; name a new one" in capsys.readouterr().err


def test_the_tables_are_of_the_machine_that_jax_finds(here, tmp_path, monkeypatch, capsys):
    device = {"platform": "gpu", "kind": "NVIDIA GeForce RTX 4090", "machine": "rtx_4090"}
    monkeypatch.setattr(on_gpu, "find_device", lambda environment: (device, ""))
    result = {"parts": dict.fromkeys("abcdef"), "seconds": None, "measured_whole": True}
    files = {
        f"paper_scale_{machine}.json": json.dumps({**result, "seconds": seconds})
        for machine, seconds in (("rtx_4090", 60), ("cpu", 6000))
    }
    code = (
        f"import pathlib; [(pathlib.Path({str(tmp_path)!r}) / n).write_text(t) for n, t in {files!r}.items()]"
    )
    monkeypatch.setattr("benchmarks.side_by_side.tables.paper_table", lambda result: "")
    assert on_gpu.main([str(tmp_path)], [Step("paper", python(code), 30, "paper_scale")]) == 0
    assert "| the paper's whole training, measured, minutes | 1.0 |" in capsys.readouterr().out


def test_the_machine_is_named_as_its_results_are():
    device, why = on_gpu.find_device({})
    assert (device, why) == ({"platform": "cpu", "kind": "cpu", "machine": "cpu"}, "")


@pytest.fixture
def on_the_path(tmp_path, monkeypatch):
    """A folder that the caller has in PYTHONPATH."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def test_steps_find_what_the_caller_has_in_pythonpath(here, on_the_path, tmp_path):
    (on_the_path / "only_there.py").write_text("answer = 42\n")
    steps = [Step("imports", python("import benchmarks, only_there; print(only_there.answer)"), 30, None)]
    assert on_gpu.main([str(tmp_path / "out"), "--dry-run"], steps) == 0
    assert (tmp_path / "out" / "log.txt").read_text().endswith("42\n")


def test_the_caller_s_pythonpath_comes_last_and_an_empty_one_adds_nothing():
    assert on_gpu.search_path("/wheels", {"PYTHONPATH": "/a:/b"}) == f"{ROOT}:/wheels:/a:/b"
    assert on_gpu.search_path("/wheels", {"PYTHONPATH": ""}) == f"{ROOT}:/wheels"
    assert on_gpu.search_path("/wheels", {}) == f"{ROOT}:/wheels"


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('jaxlib is too old')", "RuntimeError: jaxlib is too old"),
    ],
)
def test_a_jax_that_cannot_be_imported_is_not_called_a_lack_of_a_gpu(
    code, why, flags, on_the_path, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(on_gpu, "provide", lambda wheels, target: None)
    (on_the_path / "jax.py").write_text(f"{code}\n")
    assert on_gpu.main([str(tmp_path / "out"), *flags], STEPS) == 2
    error = capsys.readouterr().err
    assert f"JAX cannot be imported by {sys.executable} ({why})" in error
    assert "No GPU" not in error
    assert not (tmp_path / "out").exists()


def test_a_jax_that_finds_no_device_is_a_lack_of_a_gpu(on_the_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu, "provide", lambda wheels, target: None)
    (on_the_path / "jax.py").write_text("def devices():\n    raise RuntimeError('no driver')\n")
    assert on_gpu.main([str(tmp_path / "out")], STEPS) == 3
    assert "No GPU: JAX does not start here (RuntimeError: no driver)" in capsys.readouterr().err


def test_what_a_lacking_package_requires_is_named_with_it(tmp_path, monkeypatch):
    lacks = {"pytest-xdist", "execnet", "wadler_lindig"}
    monkeypatch.setattr(on_gpu, "lacking", lambda needed: [name for name in needed.values() if name in lacks])
    why = on_gpu.provide(tmp_path, tmp_path / "site")
    assert "pip download --no-deps -d wheels pytest-xdist execnet, then" in why


@pytest.mark.slow  # and run by .ci/run
def test_a_dry_run_of_everything(tmp_path):
    """The script as it is typed, from another folder: every step works, and every result is there."""
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/on_gpu.sh"), "results", "--dry-run"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache/jax"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(done.stdout) < 12_000
    out = tmp_path / "results"
    names = {path.name for path in out.iterdir()}
    results = {step.result for step in plan(out, dry_run=True) if step.result}
    assert names == {"log.txt", "summary.md", *(f"{name}_cpu.json" for name in results)}
    assert len(names) <= 8
    for name in results:
        assert json.loads((out / f"{name}_cpu.json").read_text())["versions"]["jax"]
    summary = (out / "summary.md").read_text()
    assert summary.strip() in done.stdout
    for step in plan(out, dry_run=True):
        assert f"| {step.name} | ok |" in summary
    assert " passed in " in summary
