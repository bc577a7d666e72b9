"""Runs a target under atheris, which keeps inputs that reach new code of the package, and mutates these.

``tests.faults.fuzz --guided`` starts it in a process of its own; atheris (3.0.0) is installed for that alone.
It leaves the same files as ``fuzz_worker``, and in ``last`` the input that is being read.
"""

import json
import logging
import os
import pathlib
import random
import sys
import warnings

import atheris

with atheris.instrument_imports(include=["gradrev_jax"]):
    from tests.faults.fuzz_worker import limit_memory
    from tests.faults.fuzzing import FAILED, READ, REFUSED, Outcome, Trial, find_target
    from tests.faults.mutations import LONGEST, mutate
    from tests.faults.watching import Watch, use_temporary_folder

    find_target(sys.argv[1])


def main(name: str, seed: int, count: int, work: pathlib.Path) -> None:
    """Runs a number of inputs; does not return.

    An input is a byte that chooses the file, and the content that the file gets.
    """
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    use_temporary_folder(work / "tmp")
    trial = Trial(find_target(name), work / "trial", seed)
    trial.check_good()
    good = trial.good_files()
    paths = list(good)
    (work / "paths.json").write_text(json.dumps([str(path.relative_to(trial.folder)) for path in paths]))
    corpus = work / "corpus"
    corpus.mkdir()
    for number, path in enumerate(paths[:256]):
        (corpus / f"{number}").write_bytes(bytes([number]) + good[path])
    watch = Watch(trial.folder, work / "tmp")
    limit_memory()
    records, counts = (work / "records.jsonl").open("a"), {READ: 0, REFUSED: 0, FAILED: 0}
    now = (work / "now").open("w")

    def tell_counts() -> None:
        state = (sum(counts.values()), counts[READ], counts[REFUSED])
        os.pwrite(now.fileno(), "".join(f"{each:12d}" for each in state).encode(), 0)

    def attempt(data: bytes) -> None:
        if not data:
            return
        tell_counts()
        (work / "last").write_bytes(data)
        path = paths[data[0] % len(paths)]
        with watch.watching():
            outcome = trial.run_files({path: data[1:]})
        if watch.found:
            outcome = Outcome(FAILED, f"did: {'; '.join(watch.found[:5])}")
        counts[outcome.result] += 1
        if outcome.result == FAILED:
            kept = {path.relative_to(trial.folder).as_posix(): data[1:].hex()}
            line = {"number": sum(counts.values()) - 1, "reason": outcome.reason, "files": kept}
            records.write(json.dumps({"failure": line}) + "\n")
            records.flush()
        tell_counts()

    def change(data: bytes, longest: int, number: int) -> bytes:
        rng = random.Random(number)
        if len(data) < 2 or rng.random() < 0.5:
            return atheris.Mutate(data, longest)
        other = good[rng.choice(paths)]
        return (data[:1] + mutate(data[1:], other, rng))[:longest]

    options = [f"-runs={count}", f"-seed={seed + 1}", f"-max_len={LONGEST}", "-timeout=0"]
    options += [
        "-rss_limit_mb=0",
        "-malloc_limit_mb=0",
        f"-artifact_prefix={work}/",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *options], attempt, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), pathlib.Path(sys.argv[4]))
