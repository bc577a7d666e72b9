"""Kills runs with SIGKILL at random moments, and compares what they come to with a run that was not killed.

python -m tests.faults.kill --kills=100 --out=kills.json
"""

import argparse
import json
import pathlib
import sys
import tempfile

from gradrev_jax.progress import ProgressBar
from tests.faults.kills.trials import Kill, run_all


def main(arguments: list[str] | None = None) -> int:
    """Runs the trials and writes their record; returns 1 if anything differed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="what phases and delays are drawn from")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="file of the record")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the runs; one with a fault stays there")
    options = parser.parse_args(arguments)
    folder = (options.keep or pathlib.Path(tempfile.mkdtemp(prefix="kills-"))).absolute()
    with ProgressBar(total=options.kills, unit="kill", desc="killing") as bar:

        def tell(kill: Kill) -> None:
            bar.set_postfix_str(kill.phase)
            bar.update()

        record = run_all(folder, options.kills, options.seed, tell)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for phase, met in record["by_phase"].items():
        print(f"{phase:20} {met['kills']:4}")
    print(f"{record['kills']} kills, {record['trials_with_faults']} of {record['trials']} runs differ")
    for trial, faults in record["faults"].items():
        print(f"run {trial}, kept in {folder}:", *faults[:10], sep="\n  ")
    return 1 if record["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
