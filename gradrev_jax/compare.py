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


def main(arguments: Sequence[str]) -> None:
    """Write the comparison and print its table."""
    out = pathlib.Path(flags.FLAGS.out)
    check_replaceable(out)
    systems, schema = read_systems(arguments)
    comparison = compare(systems, schema)
    queries, no_queries = shown_queries(systems, schema)
    write_comparison(out, comparison, queries, no_queries=no_queries)
    print(comparison_table(comparison))
    print(f"\nReport: {out / REPORT}")


if __name__ == "__main__":
    flags.DEFINE_string("out", "runs/comparison", "Folder of the comparison; an earlier one is replaced.")
    cli.run(main, arguments=True)
