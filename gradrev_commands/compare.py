"""Compares evaluated runs: gradrev-compare runs/ours runs/theirs --out=runs/comparison.

Each argument is the folder of a run, or NAME=FOLDER. Folders with the same NAME, for example runs with three
seeds, are one system.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from gradrev_commands import cli
from gradrev_jax.evaluation.comparison.numbers import compare_systems
from gradrev_jax.evaluation.comparison.queries import shown_queries
from gradrev_jax.evaluation.comparison.report import (
    REPORT,
    check_replaceable,
    comparison_table,
    write_comparison,
)
from gradrev_jax.evaluation.comparison.systems import read_systems

OUT = "runs/comparison"
MOVED = {"root": "images", "splits": "split files"}


def main() -> None:
    """Compares runs, writes the comparison and prints its table."""
    out_flag = cli.define_folder(
        "out", f"Folder of the comparison; an earlier comparison is replaced; unset: {OUT}.", written=True
    )
    moved_flags = {
        name: flags.DEFINE_string(
            f"data.{name}",
            None,
            f"New folder of the {what} of the first run if they have moved, for pictures.",
        )
        for name, what in MOVED.items()
    }

    def work(arguments: Sequence[str]) -> None:
        out = out_flag.value or pathlib.Path(OUT)
        moved = {name: flag.value for name, flag in moved_flags.items() if flag.value}
        check_replaceable(out)
        systems, schema = read_systems(arguments)
        comparison = compare_systems(systems, schema)
        queries, no_queries = shown_queries(systems, schema, data=moved)
        write_comparison(out, comparison, queries, no_queries=no_queries)
        print(comparison_table(comparison))
        print(f"\nReport: {out / REPORT}")

    cli.run(work, description=__doc__, arguments=True)


if __name__ == "__main__":
    main()
