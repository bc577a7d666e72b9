"""Compare evaluated runs: python -m gradrev_jax.compare runs/ours runs/theirs --out=runs/comparison.

Each is a run's folder, or NAME=FOLDER; folders of one NAME, as of three seeds, are one system.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from gradrev_jax import cli
from gradrev_jax.evaluation.compared_queries import shown_queries
from gradrev_jax.evaluation.compared_runs import read_systems
from gradrev_jax.evaluation.comparison import compare
from gradrev_jax.evaluation.comparison_report import (
    REPORT,
    check_replaceable,
    comparison_table,
    write_comparison,
)

OUT = "runs/comparison"
MOVED = {"root": "images lie", "splits": "split files lie"}


def main(arguments: Sequence[str]) -> None:
    """Write the comparison and print its table."""
    out = flags.FLAGS.out or pathlib.Path(OUT)
    moved = {name: flags.FLAGS[f"data.{name}"].value for name in MOVED}
    check_replaceable(out)
    systems, schema = read_systems(arguments)
    comparison = compare(systems, schema)
    queries, no_queries = shown_queries(
        systems, schema, data={name: value for name, value in moved.items() if value}
    )
    write_comparison(out, comparison, queries, no_queries=no_queries)
    print(comparison_table(comparison))
    print(f"\nReport: {out / REPORT}")


if __name__ == "__main__":
    cli.define_folder(
        "out", f"Folder of the comparison; an earlier one is replaced; unset: {OUT}.", written=True
    )
    for name, what in MOVED.items():
        flags.DEFINE_string(f"data.{name}", None, f"Where the first run's {what} now, for the pictures.")
    cli.run(main, arguments=True)
