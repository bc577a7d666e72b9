"""Runs the inputs of one target, limited and watched, in a process that ``tests.faults.fuzz`` starts.

It appends to ``records.jsonl`` of its folder a line per failure and, at its end, the counts. The number of
the input that is being read, and the counts so far, are in ``now``, for the driver if the process dies.
"""

import collections
import json
import logging
import os
import pathlib
import resource
import sys
import time
import warnings

from tests.faults.fuzzing import FAILED, READ, REFUSED, Outcome, Trial, find_target
from tests.faults.watching import Watch, use_temporary_folder

MEMORY = 2 * 2**30  # more than this beyond what the good input needs is a failure


def main(name: str, seed: int, first: int, last: int, work: pathlib.Path) -> None:
    """Runs the inputs from ``first`` to before ``last``.

    Args:
      name: the target.
      seed: the seed.
      first: the number of the first input.
      last: the number behind the last one.
      work: a folder of this process alone.
    """
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    use_temporary_folder(work / "tmp")
    trial = Trial(find_target(name), work / "trial", seed)
    trial.check_good()
    watch = Watch(trial.folder, work / "tmp")
    limit_memory()
    counts, examples = collections.Counter[str](), dict[str, str]()
    spent, begun = 0.0, time.monotonic()
    slowest = 0.0
    with (work / "records.jsonl").open("a") as records, (work / "now").open("w") as now:
        for number in range(first, last):
            state = (number, counts[READ], counts[REFUSED])
            os.pwrite(now.fileno(), "".join(f"{count:12d}" for count in state).encode(), 0)
            contents = trial.mutated(number)
            start = time.monotonic()
            with watch.watching():
                outcome = trial.run_files(contents)
            slowest = max(slowest, time.monotonic() - start)
            spent += time.monotonic() - start
            if watch.found:
                outcome = Outcome(FAILED, f"did: {'; '.join(watch.found[:5])}")
            counts[outcome.result] += 1
            if outcome.result == FAILED:
                kept = {
                    path.relative_to(trial.folder).as_posix(): data.hex() for path, data in contents.items()
                }
                line = {"number": number, "reason": outcome.reason, "files": kept}
                records.write(json.dumps({"failure": line}) + "\n")
                records.flush()
            elif outcome.reason:
                examples.setdefault(outcome.reason.split(" ")[0], outcome.reason[:300])
        seconds = time.monotonic() - begun
        done = {"counts": counts, "seconds": round(seconds, 2), "reading_seconds": round(spent, 2)}
        done |= {"slowest_seconds": round(slowest, 3), "peak_bytes": peak_bytes(), "examples": examples}
        records.write(json.dumps({"done": done}) + "\n")
    trial.close()


def limit_memory() -> None:
    """Limits the address space to what is in use and ``MEMORY`` more."""
    with open("/proc/self/status") as file:
        in_use = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmSize:"))
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))


def peak_bytes() -> int:
    """Returns the largest resident size that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), pathlib.Path(sys.argv[5]))
