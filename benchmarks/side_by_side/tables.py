"""The result as Markdown.

``python -m benchmarks.side_by_side.tables`` puts it into README.md and docs/results.md.
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

OURS, EAGER = "gradrev_jax", "torch"
KINDS = {
    "train_step": "train step",
    "inference": "inference",
    "prototypes": "prototypes",
    "evaluation": "evaluation",
    "loading": "loading, later epochs",
}
ROOT = pathlib.Path(__file__).parents[2]
SHOWN_SIZES = {
    "image": "{} px",
    "batch": "batch {}",
    "attributes": "N = {}",
    "gallery": "{:,} images",
    "dtype": "{}",
}


def speeds(cases: Sequence[Mapping[str, Any]]) -> str:
    """What each variant does in a second, and ours relative to torch and to the fastest of its variants.

    Args:
      cases: of a result of benchmarks/compare.py.
    """
    variants = [name for name in _variants(cases) if name != OURS]
    header = ["per second", OURS, *variants, "ours / torch", "ours / its best"]
    lines = [_line(header), _line(["---", *["---:"] * (len(header) - 1)])]
    for case in cases:
        results = case["results"]
        cells = [_speed(results.get(name)) for name in (OURS, *variants)]
        theirs = {name: results[name] for name in variants if name in results}
        lines.append(_line([_title(case), *cells, _ratio(results, EAGER), _ratio(results, _fastest(theirs))]))
    return "\n".join(lines)


def costs(cases: Sequence[Mapping[str, Any]]) -> str:
    """Seconds from starting Python to the end of the first time, and peak memory."""
    variants = _variants(cases)
    header = ["s to the end of the first; peak GiB", *variants]
    lines = [_line(header), _line(["---", *["---:"] * len(variants)])]
    for case in cases:
        cells = [
            f"{result['seconds_to_first']:.1f}; {result['peak_memory_gib']:.2f}" if result else ""
            for result in map(case["results"].get, variants)
        ]
        lines.append(_line([_title(case), *cells]))
    return "\n".join(lines)


def _variants(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that were measured, in the order of their first appearance."""
    return list(dict.fromkeys(name for case in cases for name in case["results"]))


def _title(case: Mapping[str, Any]) -> str:
    sizes = [text.format(case["sizes"][name]) for name, text in SHOWN_SIZES.items() if name in case["sizes"]]
    return f"{KINDS[case['kind']]}, {', '.join(sizes)} ({case['unit']})"


def _speed(result: Mapping[str, Any] | None) -> str:
    """Median, least and most."""
    if not result:
        return ""
    speeds = [result["units"] / result[f"{which}_seconds"] for which in ("median", "most", "least")]
    median, least, most = (f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}" for speed in speeds)
    return f"{median} [{least}, {most}]"


def _fastest(results: Mapping[str, Mapping[str, Any]]) -> str | None:
    return max(results, key=lambda name: results[name]["units_per_second"], default=None)


def _ratio(results: Mapping[str, Any], name: str | None) -> str:
    if name is None or name not in results or OURS not in results:
        return ""
    return f"{results[OURS]['units_per_second'] / results[name]['units_per_second']:.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def filled(text: str, tables: Mapping[str, str]) -> str:
    r"""A text with a table in each of its places, from ``<!-- NAME -->`` to ``<!-- end -->``.

    Example:
      >>> filled("<!-- speeds -->\nold\n<!-- end -->", {"speeds": "new"})
      '<!-- speeds -->\nnew\n<!-- end -->'
    """
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = place.sub(rf"\g<1>{table}\n\g<2>", text)
    return text


def with_results(path: pathlib.Path) -> str:
    """A Markdown file with the tables of the results that are there."""
    tables: dict[str, str] = {}
    for result in sorted((ROOT / "benchmarks" / "results").glob("compare_*.json")):
        cases = json.loads(result.read_text(encoding="utf-8"))["cases"]
        tables |= {f"{result.stem} speeds": speeds(cases), f"{result.stem} costs": costs(cases)}
    return filled(path.read_text(encoding="utf-8"), tables)


if __name__ == "__main__":
    for path in (ROOT / "README.md", ROOT / "docs" / "results.md"):
        path.write_text(with_results(path), encoding="utf-8")
