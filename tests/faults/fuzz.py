"""Fuzzes all readers with mutated files, in processes that are limited and watched.

    python -m tests.faults.fuzz --inputs=100000 --out=fuzz.json
    python -m tests.faults.fuzz --inputs=2000 --targets=table,images --seed=7 --out=fuzz.json

Every input must be read, or be refused by an error of ours that names a file: within 10 seconds, within
2 GiB of memory, without running or importing anything, without touching a file elsewhere. An input that fails
is kept beside the record, under ``failures/``, and the exit status is 1.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

from tests.faults.fuzz_worker import MEMORY
from tests.faults.fuzzing import SECONDS, Trial, find_target, load_targets

GRACE = 20  # seconds beyond the limit of one input after which a process that does not react is killed
STARTUP = 180  # seconds until the first input
CHUNK = 20_000  # the number of inputs of one process


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--inputs", type=int, default=100_000, help="the number of inputs of all targets together"
    )
    parser.add_argument("--targets", default="", help="the names of targets, with commas; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="the record to be written, a JSON file"
    )
    parser.add_argument(
        "--guided", action="store_true", help="guide the mutations by coverage (needs atheris)"
    )
    parser.add_argument("--list", action="store_true", help="only name the targets")
    flags = parser.parse_args(arguments)
    targets = load_targets()
    if flags.list:
        print("\n".join(targets))
        return 0
    names = flags.targets.split(",") if flags.targets else list(targets)
    if unknown := [name for name in names if name not in targets and ":" not in name]:
        parser.error(f"unknown targets: {', '.join(unknown)}; there are {', '.join(targets)}")
    counts = [flags.inputs // len(names) + (n < flags.inputs % len(names)) for n in range(len(names))]
    failures = flags.out.parent / "failures"
    results = {}
    for name, count in zip(names, counts, strict=True):
        run = run_guided if flags.guided else run_target
        results[name] = run(name, count, flags.seed, failures)
        print(describe(name, results[name]), flush=True)
        write_record(flags.out, flags.seed, flags.guided, results)
    failed = sum(result["failed"] for result in results.values())
    inputs = sum(result["inputs"] for result in results.values())
    print(f"{inputs:,} inputs, {failed:,} failures" + (f": see {failures}" if failed else ""))
    return 1 if failed else 0


def run_target(name: str, count: int, seed: int, failures: pathlib.Path) -> dict[str, Any]:
    """Runs inputs 0 to ``count`` of a target, in one process after another.

    Args:
      name: the target.
      count: the number of inputs.
      seed: the seed.
      failures: the folder where inputs that fail are kept.
    """
    total: dict[str, Any] = {"inputs": 0, "read": 0, "refused": 0, "failed": 0, "seconds": 0.0}
    total |= {"slowest_seconds": 0.0, "peak_mib": 0.0, "failures": []}
    first = 0
    while first < count:
        with tempfile.TemporaryDirectory(prefix="gradrev-fuzz-") as folder:
            work = pathlib.Path(folder).resolve()
            last = min(first + CHUNK, count)
            start = time.monotonic()
            death = _run_process("fuzz_worker", [name, seed, first, last, work], work)
            first = _take_records(name, work, death, first, last, total)
            total["seconds"] = round(total["seconds"] + time.monotonic() - start, 2)
    _keep_failures(name, seed, total["failures"], failures)
    return total


def _run_process(module: str, arguments: list[Any], work: pathlib.Path) -> str:
    """Runs a module of this folder until it ends or must be killed.

    Returns:
      Why it died; "" if it ended by itself.
    """
    command = [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.getcwd(),
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    with (work / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    before, since = None, time.monotonic()
    while True:
        try:
            status = process.wait(timeout=0.2)
            if status == 0:
                return ""
            text = (work / "output").read_text(errors="replace").strip()
            return f"crash: exit status {status}: {text[-2000:]}"
        except subprocess.TimeoutExpired:
            pass
        now = _current(work)
        if now != before:
            before, since = now, time.monotonic()
        death = ""
        if time.monotonic() - since > (SECONDS + GRACE if now is not None else STARTUP):
            death = f"hang: no reaction after {SECONDS + GRACE} s"
        elif (size := _resident_bytes(process.pid)) > 2 * MEMORY:
            death = f"memory: {size / 2**20:,.0f} MiB"
        if death:
            process.kill()
            process.wait()
            return death


def _current(work: pathlib.Path) -> tuple[int, int, int] | None:
    """Returns the number of the input that a process reads, and how many were read and refused before it.

    None: it has not begun.
    """
    try:
        number, read, refused = map(int, (work / "now").read_text().split())
    except (OSError, ValueError):
        return None
    return number, read, refused


def _resident_bytes(process: int) -> int:
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def _take_records(
    name: str, work: pathlib.Path, death: str, first: int, last: int, total: dict[str, Any]
) -> int:
    """Adds the records of a process to the total; returns the number of the input to go on with."""
    records = work / "records.jsonl"
    lines = [json.loads(line) for line in records.read_text().splitlines()] if records.exists() else []
    total["failures"] += [line["failure"] for line in lines if "failure" in line]
    if not death:
        done = next(line["done"] for line in lines if "done" in line)
        for result in ("read", "refused", "failed"):
            total[result] += done["counts"].get(result, 0)
        total["inputs"] += last - first
        total["slowest_seconds"] = max(total["slowest_seconds"], done["slowest_seconds"])
        total["peak_mib"] = max(total["peak_mib"], round(done["peak_bytes"] / 2**20, 1))
        total.setdefault("examples", {}).update(done["examples"])
        return last
    now = _current(work)
    if now is None:
        raise SystemExit(f"{name}: the process did not begin: {death}")
    number, read, refused = now
    total["read"] += read
    total["refused"] += refused
    total["failed"] += number - first - read - refused + 1
    total["inputs"] += number - first + 1
    total["failures"].append({"number": number, "reason": death, "files": {}})
    return number + 1


def _keep_failures(name: str, seed: int, found: list[dict[str, Any]], failures: pathlib.Path) -> None:
    """Writes the files of inputs that failed, and leaves their content out of the record."""
    if not found:
        return
    with tempfile.TemporaryDirectory(prefix="gradrev-fuzz-") as folder:
        trial = Trial(find_target(name), pathlib.Path(folder, "trial").resolve(), seed)
        for failure in found:
            files = {path: bytes.fromhex(data) for path, data in failure.pop("files").items()}
            if not files and isinstance(failure["number"], int):
                mutated = trial.mutated(failure["number"])
                files = {path.relative_to(trial.folder).as_posix(): data for path, data in mutated.items()}
            kept = failures / f"{name.replace(' ', '_').rpartition(':')[2]}-{seed}-{failure['number']}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(trial.folder, kept, symlinks=True)
            for path, data in files.items():
                (kept / path).write_bytes(data)
            (failures / f"{kept.name}.json").write_text(
                json.dumps({"target": name, "seed": seed, **failure, "mutated": sorted(files)}, indent=1)
                + "\n"
            )


def run_guided(name: str, count: int, seed: int, failures: pathlib.Path) -> dict[str, Any]:
    """Runs a target under atheris, which prefers mutations that reach new code; see ``run_target``."""
    total: dict[str, Any] = {"inputs": 0, "read": 0, "refused": 0, "failed": 0, "seconds": 0.0}
    total |= {"slowest_seconds": 0.0, "peak_mib": 0.0, "failures": []}
    while total["inputs"] < count:
        with tempfile.TemporaryDirectory(prefix="gradrev-fuzz-") as folder:
            work, start = pathlib.Path(folder).resolve(), time.monotonic()
            rest, again = count - total["inputs"], seed + total["inputs"]
            death = _run_process("fuzz_guided", [name, again, rest, work], work)
            if _current(work) is None:
                raise SystemExit(
                    f"{name}: the process did not begin: {(work / 'output').read_text()[-2000:]}"
                )
            _take_guided(work, death, total)
            total["seconds"] = round(total["seconds"] + time.monotonic() - start, 2)
    _keep_failures(name, seed, total["failures"], failures)
    return total


def _take_guided(work: pathlib.Path, death: str, total: dict[str, Any]) -> None:
    """Adds what a guided process left behind."""
    number, read, refused = _current(work) or (0, 0, 0)
    records = (work / "records.jsonl").read_text().splitlines()
    found = [json.loads(line)["failure"] for line in records]
    if death:
        last = (work / "last").read_bytes()
        paths = json.loads((work / "paths.json").read_text())
        kept = {paths[last[0] % len(paths)]: last[1:].hex()}
        found.append({"number": number, "reason": death, "files": kept})
    for failure in found:
        failure["number"] += total["inputs"]
    total["read"] += read
    total["refused"] += refused
    total["failed"] += len(found)
    total["inputs"] += number + (1 if death else 0)
    total["failures"] += found


def describe(name: str, result: dict[str, Any]) -> str:
    """Returns one line on a target."""
    rate = result["inputs"] / max(result["seconds"], 1e-9)
    return (
        f"{name}: {result['inputs']:,} inputs, {result['read']:,} read, {result['refused']:,} refused, "
        f"{result['failed']:,} failed; {rate:,.0f} a second, the slowest {result['slowest_seconds']:.1f} s, "
        f"peak {result['peak_mib']:,.0f} MiB"
    )


def write_record(path: pathlib.Path, seed: int, guided: bool, results: dict[str, Any]) -> None:
    """Writes the record of a run."""
    keys = ("inputs", "read", "refused", "failed", "seconds")
    record = {
        "command": " ".join(["python -m tests.faults.fuzz", *sys.argv[1:]]),
        "python": platform.python_version(),
        "seed": seed,
        "guided": guided,
        "seconds_per_input": SECONDS,
        "memory_limit_mib": MEMORY // 2**20,
        "total": {key: round(sum(result[key] for result in results.values()), 2) for key in keys},
        "targets": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
