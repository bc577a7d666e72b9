"""Formats results as Markdown tables.

``python -m benchmarks.side_by_side.tables`` inserts all results into docs/.
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

OURS, EAGER = "gradrev_jax", "torch"
KINDS = {
    "train_step": "train step",
    "embedding_step": "train step on embeddings",
    "inference": "inference",
    "efficientnet_lite0": "EfficientNet-Lite0, inference",
    "prototypes": "prototypes",
    "evaluation": "evaluation",
    "loading": "loading, later epochs",
}
# The evaluations of benchmarks/search.py, and what their queries are called.
SEARCHES = {
    "evaluation": "",
    "evaluation_without_classes": " without class structure",
    "evaluation_run": " of a run",
    "evaluation_run_all_images": " of a run, in all of its images",
}
ROOT = pathlib.Path(__file__).parents[2]
SHOWN_SIZES = {
    "image": "{} px",
    "vector": "{:,} numbers",
    "batch": "batch {}",
    "attributes": "N = {}",
    "gallery": "{:,} images",
    "dtype": "{}",
}


def speeds(cases: Sequence[Mapping[str, Any]]) -> str:
    """Tabulates each variant's speed, and ours relative to torch and to the fastest torch variant.

    Args:
      cases: the cases of a result of benchmarks/compare.py.
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
    """Tabulates the seconds from starting Python to the end of the first run, and the peak memory."""
    variants = _variants(cases)
    header = ["s to the end of the first; peak GiB", *variants]
    lines = [_line(header), _line(["---", *["---:"] * len(variants)])]
    for case in cases:
        cells = [_cost(case["results"].get(name)) for name in variants]
        lines.append(_line([_title(case), *cells]))
    return "\n".join(lines)


def scaling_table(result: Mapping[str, Any]) -> str:
    """Tabulates devices, input and steps per call.

    Args:
      result: the result of benchmarks/scaling.py; missing parts are skipped.
    """
    tables = []
    if "parallel" in result:
        header = ["train step, at equal global batch", "s", "times one device", "peak GiB"]
        lines = [_line(header), _line(["---", *["---:"] * (len(header) - 1)])]
        for case in result["parallel"]["cases"]:
            sizes = f"{case['sizes']['image']} px, batch {case['sizes']['batch']}"
            for name, measured in case["results"].items():
                seconds = {
                    statistic: measured[f"{statistic}_seconds"] for statistic in ("median", "least", "most")
                }
                ratio, peak = measured["times_one_device"], measured["peak_memory_gib"]
                cells = [f"{sizes}: {name}", _spread(seconds, ".2f"), f"{ratio:.2f}", f"{peak:.2f}"]
                lines.append(_line(cells))
        tables.append(lines)
    for part, title in (("input", "paper's sizes, from the second epoch"), ("steps", "tiny model")):
        if part not in result:
            continue
        header = [title, "images a second", "waiting for input, %"]
        lines = [_line(header), _line(["---", *["---:"] * (len(header) - 1)])]
        for case in result[part]["cases"]:
            fields = {name.partition(".")[2]: value for name, value in case["fields"].items()}
            named = [f"{name} {fields[name]}" for name in ("placement", "steps_per_call") if name in fields]
            cells = [_spread(case["images_per_second"], ",.1f"), _spread(case["input_wait"], ".2%")]
            lines.append(_line([", ".join(named), *(cell.replace("%", "") for cell in cells)]))
        tables.append(lines)
    return "\n\n".join("\n".join(lines) for lines in tables)


def paper_table(result: Mapping[str, Any]) -> str:
    """Tabulates the time of each part of the paper's training.

    Args:
      result: the result of benchmarks/paper_scale.py.
    """
    header = ["part", "minutes", "how", "s a step", "images a second", "of matrix rate"]
    lines = [_line(header), _line(["---", "---:", "---", *["---:"] * 3])]
    for name, part in result["parts"].items():
        details = part["details"]
        cells = ["", "", ""]
        if "step_seconds" in details:
            speed = f"{details['images_per_second']:,.0f}"
            cells = [_spread(details["step_seconds"], ".3f"), speed, f"{details['of_matrix_rate']:.0%}"]
        lines.append(_line([name, f"{part['seconds'] / 60:,.1f}", part["how"], *cells]))
    how = "measured" if result["measured_whole"] else "mostly extrapolated"
    lines.append(_line(["all", f"{result['seconds'] / 60:,.1f}", how, "", "", ""]))
    return "\n".join(lines)


def card_table(result: Mapping[str, Any]) -> str:
    """Tabulates the peak rates of the machine.

    Args:
      result: the result of benchmarks/card.py.
    """
    memory = f", {result['memory_gib']:.0f} GiB" if result.get("memory_gib") else ""
    driver = f", driver {result['driver']}" if result.get("driver") else ""
    versions = ("jax", "flax", "torch")
    shown = "".join(f", {name} {result['versions'][name]}" for name in versions if name in result["versions"])
    lines = [
        _line([f"{result['card']}{memory}{driver}{shown}", "median [least, most]"]),
        _line(["---", "---:"]),
    ]
    rates = {
        f"products of {result['sizes']['matrix']:,} x {result['sizes']['matrix']:,}, {name}, TFLOP/s": (
            {statistic: rate[statistic] / 1e12 for statistic in ("median", "least", "most")},
            ",.1f",
        )
        for name, rate in result["matrix_flop_per_second"].items()
    }
    for what, name in (("copy in its memory", "copy"), ("from the host", "transfer")):
        rate = result[f"{name}_bytes_per_second"]
        gigabytes = {statistic: rate[statistic] / 1e9 for statistic in ("median", "least", "most")}
        rates[f"{what}, GB/s"] = gigabytes, ",.1f"
    rates["programs that do nothing, a second"] = result["calls_per_second"], ",.0f"
    lines += [_line([what, _spread(rate, form)]) for what, (rate, form) in rates.items()]
    return "\n".join(lines)


def search_table(result: Mapping[str, Any]) -> str:
    """Tabulates the milliseconds of an evaluation's queries and of one more manipulation, for each side.

    Args:
      result: the result of benchmarks/search.py; missing parts are skipped.
    """
    sides = ("gradrev_jax", "torch on the GPU", "faiss")
    lines = [_line(["search, ms", "side", "median [least, most]", "p99"]), _line(["---"] * 2 + ["---:"] * 2)]
    cases = {}
    for name, kind in SEARCHES.items():
        if evaluation := result.get(name):
            sizes = evaluation["sizes"]
            width = sizes.get("blocks", 12) * sizes["dim"]
            what = f"{sizes['queries']:,} queries{kind}, {sizes['gallery']:,} x {width:,}, index included"
            cases[what] = evaluation
    for case in result.get("one_more_manipulation", ()):
        cases[f"one more manipulation, {case['rows']:,} x {case['width']:,}"] = case
    for what, case in cases.items():
        for side in sides:
            if side in case:
                times = {
                    statistic: 1e3 * case[side][f"{statistic}_seconds"]
                    for statistic in ("median", "least", "most")
                }
                p99 = f"{1e3 * case[side]['p99_seconds']:,.2f}"
                lines.append(_line([what, side, _spread(times, ",.2f"), p99]))
        if "skipped" in case:
            lines.append(_line([what, "skipped", case["skipped"], ""]))
    return "\n".join(lines)


def profile_table(result: Mapping[str, Any]) -> str:
    """Tabulates the milliseconds per step of each kind of work.

    Args:
      result: the result of benchmarks/step_profile.py.
    """
    stages = result["stages"]
    header = [f"ms a step, {result['precision']}", *stages]
    lines = [_line(header), _line(["---", *["---:"] * len(stages)])]
    for kind in next(iter(stages.values()))["seconds_per_step"]:
        cells = []
        for stage in stages.values():
            seconds, share = stage["seconds_per_step"][kind], stage["of_matrix_rate"].get(kind)
            cells.append(f"{1e3 * seconds:.2f}" + (f" ({share:.0%} of the matrix rate)" if share else ""))
        lines.append(_line([kind, *cells]))
    for name, what in (("span_per_step", "first to last work"), ("wall_seconds_per_step", "wall clock")):
        lines.append(_line([what, *(f"{1e3 * stage[name]:.2f}" for stage in stages.values())]))
    lines.append(_line(["waiting for input", *(f"{stage['input_wait']:.2%}" for stage in stages.values())]))
    both = (stage["of_matrix_rate"].get("both", 0.0) for stage in stages.values())
    lines.append(
        _line(["convolutions and products, of the matrix rate", *(f"{share:.0%}" for share in both)])
    )
    return "\n".join(lines)


def kernels_table(result: Mapping[str, Any], most: int = 15) -> str:
    """Tabulates the longest kernels of each stage.

    Args:
      result: the result of benchmarks/step_profile.py.
      most: the number of kernels per stage.
    """
    lines = [_line(["stage", "kernel", "kind", "ms a step", "times"]), _line([*["---"] * 3, *["---:"] * 2])]
    for name, stage in result["stages"].items():
        for kernel in stage["kernels"][:most]:
            milliseconds, times = f"{1e3 * kernel['seconds']:.3f}", f"{kernel['times']:.1f}"
            lines.append(_line([name, kernel["name"][:60], kernel["kind"], milliseconds, times]))
    return "\n".join(lines)


def convolutions_table(result: Mapping[str, Any]) -> str:
    """Tabulates each pass of each convolution, beside plain XLA's.

    Args:
      result: the result of benchmarks/layers.py.
    """
    header = [
        *(_layers_title("convolution", result), "tiles", f"{OURS}, ms", "plain, ms"),
        *(f"{OURS}, GFLOP/s", "plain, GFLOP/s", "times faster"),
    ]
    lines = [_line(header), _line(["---", "---", *["---:"] * 5])]
    for layer in result["convolutions"]:
        for name, measured in layer["passes"].items():
            speeds = [f"{measured[side]['gflop_per_second']:,.0f}" for side in (OURS, "plain")]
            tiles = "yes" if layer["tiles"] else "no"
            cells = [f"{layer['layer']}, {name}", tiles, *_milliseconds(measured), *speeds]
            lines.append(_line([*cells, f"{measured['times_faster']:.2f}"]))
    return "\n".join(lines)


def poolings_table(result: Mapping[str, Any]) -> str:
    """Tabulates each pass of each pooling, beside flax's.

    Args:
      result: the result of benchmarks/layers.py.
    """
    title = _layers_title("pooling", result)
    header = [title, f"{OURS}, ms", "flax.linen.max_pool, ms", "times faster"]
    lines = [_line(header), _line(["---", *["---:"] * 3])]
    for layer in result["poolings"]:
        for name, measured in layer["passes"].items():
            cells = [f"{layer['layer']}, {name}", *_milliseconds(measured), f"{measured['times_faster']:.2f}"]
            lines.append(_line(cells))
    return "\n".join(lines)


def many_embeddings_table(result: Mapping[str, Any]) -> str:
    """Tabulates the memory and the time of training on embeddings, by the number of images.

    Args:
      result: the result of benchmarks/many_embeddings.py.
    """
    sizes = result["sizes"]
    header = [
        f"embeddings of {sizes['width']:,} numbers, batch {sizes['batch']}",
        *("file, GiB", "peak resident, GiB", "anonymous", "of files", "opening, s", "ms a step"),
    ]
    lines = [_line(header), _line(["---", *["---:"] * (len(header) - 1)])]
    for run in result["runs"]:
        file = run["rows"] * sizes["width"] * 4  # float32
        kinds = (run[f"peak_{kind}"] for kind in ("bytes", "anonymous_bytes", "file_bytes"))
        gigabytes = [f"{count / 2**30:.2f}" for count in (file, *kinds)]
        seconds = f"{run['opening_seconds']:.0f}", f"{1e3 * run['step_seconds']:.0f}"
        lines.append(_line([f"{run['rows']:,} images", *gigabytes, *seconds]))
    return "\n".join(lines)


def engines_table(result: Mapping[str, Any]) -> str:
    """Tabulates the milliseconds of a search in this process and by a vector engine.

    Args:
      result: the result of benchmarks/engines.py.
    """
    sizes, items, engine = result["sizes"], result["ItemGallery"], result["milvus-lite"]
    width = sizes["attributes"] * sizes["dim"]
    title = (
        f"{sizes['gallery']:,} garments of {width:,} numbers, {sizes['queries']:,} queries, k = {sizes['k']}"
    )
    lines = [_line([title, "median, ms", "99 %, ms"]), _line(["---", "---:", "---:"])]
    for name, times in (
        ("`ManipulationIndex`, another item", result["ManipulationIndex"]),
        ("`ItemGallery`, another item", items["first"]),
        ("`ItemGallery`, one more edit of an item", items["again"]),
        ("the same, filtered by one label", items["filtered"]),
        ("milvus-lite", engine["any"]),
        ("milvus-lite, filtered by one label", engine["filtered"]),
    ):
        lines.append(_line([name, *(f"{1e3 * times[f'{each}_seconds']:.1f}" for each in ("median", "p99"))]))
    return "\n".join(lines)


def engine_needs_table(result: Mapping[str, Any]) -> str:
    """Tabulates the time that an engine needs to be filled and opened, and its disk and memory.

    Args:
      result: the result of benchmarks/engines.py.
    """
    engine = result["milvus-lite"]
    header = ["filling, s", "opening, s", "bytes of a garment on disk", "memory, GiB"]
    cells = [
        f"{engine['filling_seconds']:.0f}",
        f"{engine['opening_seconds']:.1f}",
        f"{engine['stored_bytes'] / result['sizes']['gallery']:,.0f}",
        f"{(engine['peak_bytes'] - engine['imported_bytes']) / 2**30:.2f}",
    ]
    return "\n".join([_line(header), _line(["---:"] * len(header)), _line(cells)])


def _layers_title(kind: str, result: Mapping[str, Any]) -> str:
    return f"{kind}, {result['sizes']['image']} px, batch {result['sizes']['batch']}"


def _milliseconds(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Formats the milliseconds of both sides of a pass: median, least and most."""
    return [
        _spread(
            {
                statistic: 1e3 * measured[side][f"{statistic}_seconds"]
                for statistic in ("median", "least", "most")
            },
            ".1f",
        )
        for side in (OURS, "plain")
    ]


def startup_table(result: Mapping[str, Any]) -> str:
    """Tabulates the seconds of first and second starts, and of PyTorch's.

    Args:
      result: the result of benchmarks/startup.py.
    """
    titles = {
        "train": "`train.py`, AlexNet, 224 px, batch 64, to the end of its first step",
        "demo": "the training of `make demo`, to the end of its first step",
        "evaluate": "`evaluate.py` on the demo's run",
        "evaluate_again": "the same, of a checkpoint that was evaluated before",
    }
    kinds = ("first", "second", "torch")
    header = ["seconds", "first start", "later starts", "torch"]
    lines = [_line(header), _line(["---", *["---:"] * len(kinds)])]
    for name, seconds in result["seconds"].items():
        cells = [_spread(seconds[kind], ".1f") if kind in seconds else "" for kind in kinds]
        lines.append(_line([titles[name], *cells]))
    return "\n".join(lines)


def _spread(values: Mapping[str, float], form: str) -> str:
    """Formats the median, the least and the most."""
    median, least, most = (format(values[statistic], form) for statistic in ("median", "least", "most"))
    return f"{median} [{least}, {most}]"


def _variants(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the measured variants in the order of their first appearance."""
    return list(dict.fromkeys(name for case in cases for name in case["results"]))


def _title(case: Mapping[str, Any]) -> str:
    sizes = [text.format(case["sizes"][name]) for name, text in SHOWN_SIZES.items() if name in case["sizes"]]
    return f"{KINDS[case['kind']]}, {', '.join(sizes)} ({case['unit']})"


def _speed(result: Mapping[str, Any] | None) -> str:
    """Formats the median, least and greatest speed."""
    if not result:
        return ""
    speeds = [result["units"] / result[f"{statistic}_seconds"] for statistic in ("median", "most", "least")]
    median, least, most = (f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}" for speed in speeds)
    return f"{median} [{least}, {most}]"


def _cost(result: Mapping[str, Any] | None) -> str:
    """Formats the seconds to the end of the first run, if they are valid, and the peak GiB."""
    if not result:
        return ""
    seconds = f"{result['seconds_to_first']:.1f}" if "seconds_to_first" in result else "-"
    return f"{seconds}; {result['peak_memory_gib']:.2f}"


def _fastest(results: Mapping[str, Mapping[str, Any]]) -> str | None:
    return max(results, key=lambda name: results[name]["units_per_second"], default=None)


def _ratio(results: Mapping[str, Any], name: str | None) -> str:
    if name is None or name not in results or OURS not in results:
        return ""
    return f"{results[OURS]['units_per_second'] / results[name]['units_per_second']:.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def filled(text: str, tables: Mapping[str, str]) -> str:
    r"""Replaces the tables of a text, each between ``<!-- NAME -->`` and ``<!-- end -->``.

    Example:
      >>> filled("<!-- speeds -->\nold\n<!-- end -->", {"speeds": "new"})
      '<!-- speeds -->\nnew\n<!-- end -->'
    """
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = place.sub(rf"\g<1>{table}\n\g<2>", text)
    return text


def with_results(path: pathlib.Path) -> str:
    """Returns the text of a Markdown file with the tables of all recorded results."""
    tables: dict[str, str] = {}
    for result in sorted((ROOT / "benchmarks" / "results").glob("compare_*.json")):
        cases = json.loads(result.read_text(encoding="utf-8"))["cases"]
        tables |= {f"{result.stem} speeds": speeds(cases), f"{result.stem} costs": costs(cases)}
    for result in sorted((ROOT / "benchmarks" / "results").glob("layers_*.json")):
        layers = json.loads(result.read_text(encoding="utf-8"))
        tables[f"{result.stem} convolutions"] = convolutions_table(layers)
        tables[f"{result.stem} poolings"] = poolings_table(layers)
    for result in sorted((ROOT / "benchmarks" / "results").glob("profile_*.json")):
        profile = json.loads(result.read_text(encoding="utf-8"))
        tables[f"{result.stem} kernels"] = kernels_table(profile)
    for result in sorted((ROOT / "benchmarks" / "results").glob("engines.json")):
        measured = json.loads(result.read_text(encoding="utf-8"))
        tables["engines"], tables["engines needs"] = engines_table(measured), engine_needs_table(measured)
    for pattern, table in (
        ("scaling_*.json", scaling_table),
        ("paper_scale_*.json", paper_table),
        ("card_*.json", card_table),
        ("profile_*.json", profile_table),
        ("search_*.json", search_table),
        ("startup_*.json", startup_table),
        ("many_embeddings.json", many_embeddings_table),
    ):
        for result in sorted((ROOT / "benchmarks" / "results").glob(pattern)):
            tables[result.stem] = table(json.loads(result.read_text(encoding="utf-8")))
    return filled(path.read_text(encoding="utf-8"), tables)


if __name__ == "__main__":
    for path in (ROOT / "docs" / f"{name}.md" for name in ("design", "gpu", "results", "scaling")):
        path.write_text(with_results(path), encoding="utf-8")
