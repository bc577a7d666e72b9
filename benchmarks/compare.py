"""Measures gradrev_jax beside the PyTorch reference, in one run.

    python benchmarks/compare.py --photographs=FOLDER

Each variant runs in its own process; all are warmed up and then take turns, so that other load on the machine
affects them equally. The cases are train steps, inference, that of EfficientNet-Lite0 beside the PyTorch
package of that name, prototypes, the whole evaluation at Shopping100k's sizes, and, with --photographs (a
folder of images with an attributes.csv, see README.md), loading. For each it reports the median and the
spread, the peak memory, and the time until the first run has
ended, including imports and compilation. It runs on a GPU if both sides find one, and otherwise on the CPU;
sides that are not installed are skipped and reported. On two CPU cores it takes about 20 minutes; on a GPU,
``--quick`` measures only the paper's sizes, see docs/gpu.md.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.evaluation import KS, random_evaluation
from benchmarks.recording import machine_name, parse_flags, record
from benchmarks.side_by_side import inputs, tables
from benchmarks.side_by_side.cases import Case, plan, quick_plan, tiny
from benchmarks.side_by_side.jax_side import flop_per_image
from benchmarks.side_by_side.turns import measure, measure_together
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.progress import ProgressBar

INSTALL = "install it with pip install -c constraints.txt -e '.[torch]'"
EFFICIENTNET = "efficientnet_lite_pytorch"  # the package whose EfficientNet-Lite0 ours is measured beside


def probe(code: str) -> str | None:
    """Returns the output of a line of Python in a new process; None if it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def missing() -> dict[str, str]:
    """Returns the libraries that are not installed, each with the reason why its part is skipped."""
    return {
        name: f"{name} is not installed; {INSTALL}"
        for name in ("torch", "faiss", EFFICIENTNET)
        if probe(f"import {name}") is None
    }


def pick_device(wanted: str) -> str:
    """Returns ``cpu`` or ``cuda``; ``auto`` is a GPU only if both sides find one.

    Where torch is not installed, its side is skipped, so that only JAX needs a GPU.

    Raises:
      ValueError: if ``cuda`` is wanted and a side finds no GPU: it would be measured on the CPU.
    """
    if wanted == "cpu":
        return wanted
    ours = probe("import jax; print(jax.default_backend())") == "gpu"
    theirs = probe("import torch; print(torch.cuda.is_available())")
    without = [name for name, is_without in (("JAX", not ours), ("torch", theirs == "False")) if is_without]
    if without and wanted == "cuda":
        raise ValueError(f"--device=cuda: {' and '.join(without)} found no GPU")
    if len(without) == 1 and (ours or theirs == "True"):
        print(f"{without[0]} found no GPU, so both sides run on the CPU")
    return "cpu" if without else "cuda"


def prepare_evaluation(case: Case, folder: pathlib.Path) -> dict[str, Any]:
    """Writes the features and queries of an evaluation for both sides; returns their arguments."""
    sizes = {name: case.sizes[name] for name in ("gallery", "references", "queries", "dim")}
    features, labels, queries, schema = random_evaluation(**sizes)
    arrays = {
        "features": features,
        "labels": labels,
        "memory": np.asarray(class_prototypes(features, labels, schema)),
        "sizes": np.asarray(schema.sizes),
        **vars(queries),
    }
    inputs.save_evaluation(folder, arrays)
    return {"folder": str(folder), "ks": [k for k in KS if k <= case.sizes["deepest"]]}


def disagreement(results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Returns the largest difference between two variants' metrics; None if fewer than two have metrics."""
    rows = [
        [value for by_k in result["metrics"].values() for value in by_k.values()]
        for result in results.values()
        if "metrics" in result
    ]
    return float(np.ptp(np.asarray(rows), axis=0).max()) if len(rows) > 1 else None


def make_arguments(case: Case, folder: pathlib.Path, photographs: pathlib.Path | None) -> dict[str, Any]:
    """Writes the input files of a case into a new folder; returns the arguments of both sides' functions."""
    folder.mkdir()
    if case.kind == "evaluation":
        return prepare_evaluation(case, folder)
    if case.kind == "loading":
        return {"folder": str(photographs), "cache": str(folder), **case.sizes}
    return {**case.sizes, **case.options}


def run(
    cases: Sequence[Case],
    device: str,
    absent: Mapping[str, str],
    photographs: pathlib.Path | None,
    *,
    together: bool,
) -> Iterator[dict[str, Any]]:
    """Measures the cases; yields each result as soon as it is complete.

    Args:
      cases: the cases to measure.
      device: the device of both sides, ``cpu`` or ``cuda``.
      absent: the libraries that are not installed, each with the reason why its part is skipped.
      photographs: the folder of images for the case ``loading``.
      together: whether all workers start before the first measurement, see ``measure_together``.
    """
    skip = {"torch": absent["torch"]} if "torch" in absent else {}
    with tempfile.TemporaryDirectory() as folder:
        if together:
            planned = [
                (case, make_arguments(case, pathlib.Path(folder) / str(number), photographs))
                for number, case in enumerate(cases)
            ]
            for case, measured in zip(cases, measure_together(planned, device, skip=skip), strict=True):
                yield describe(case, measured)
            return
        for number, case in enumerate(bar := ProgressBar(cases, unit="case")):
            bar.set_description(case.name)
            arguments = make_arguments(case, pathlib.Path(folder) / str(number), photographs)
            needed = {"evaluation": "faiss", "efficientnet_lite0": EFFICIENTNET}.get(case.kind, "torch")
            why = {"torch": absent[needed], **skip} if needed in absent else skip
            yield describe(case, measure(case, device, arguments=arguments, skip=why))


def describe(case: Case, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry of a case in the result: the case and its measurements."""
    if case.kind in ("train_step", "inference"):
        flop = flop_per_image(case.kind, case.sizes)
        for result in measured["results"].values():
            result["flop_per_second"] = flop * result["units_per_second"]
    difference = disagreement(measured["results"])
    return {
        "kind": case.kind,
        "sizes": case.sizes,
        "unit": case.unit,
        "warm_up": case.warm_up,
        **({"steps_per_turn": case.options.get("steps", 1)} if "batch" in case.sizes else {}),
        **measured,
        **({} if difference is None else {"largest_difference_of_metrics": difference}),
    }


def flags() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=pathlib.Path, help="folder with images and an attributes.csv")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", nargs="+", choices=tuple(tables.KINDS), help="kinds of cases; all if unset")
    parser.add_argument(
        "--match", default="", help="cases with this in their names, as 'batch 64 attributes 12'"
    )
    parser.add_argument("--part", help="a word for the name of the result, compare_PART_MACHINE.json")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument(
        "--quick", action="store_true", help="the paper's sizes alone, all workers started first: for a GPU"
    )
    parser.add_argument("--out", type=pathlib.Path, help="folder of compare_MACHINE.json")
    return parser


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = flags()
    options = parse_flags(
        parser, arguments, is_trial=lambda options: (options.only or options.match) and not options.part
    )
    if options.photographs and not (options.photographs / "attributes.csv").is_file():
        parser.error(f"--photographs={options.photographs}: it has no attributes.csv")

    # This has to be set before JAX looks for a GPU: with preallocation, this process would take most of the
    # memory that the workers need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        device, absent = pick_device(options.device), missing()
    except ValueError as error:
        parser.error(str(error))
    machine = machine_name() if device == "cuda" else "cpu"
    path = options.out / "_".join(["compare", *([options.part] if options.part else []), machine])
    path = path.with_suffix(".json")
    skipped = list(absent.values())
    if not options.photographs:
        skipped.append("loading: it needs real files; give --photographs=FOLDER")
    with_photographs = options.photographs is not None
    if options.tiny:
        cases = tiny(with_photographs)
    elif options.quick:
        cases = quick_plan(repeats=options.repeats)
    else:
        cases = plan(device, repeats=options.repeats, photographs=with_photographs)
    cases = [
        case for case in cases if case.kind in (options.only or tables.KINDS) and options.match in case.name
    ]
    if not cases:
        parser.error(f"no case has {options.match!r} in its name")
    result: dict[str, Any] = {"device": device, "cases": [], "skipped": skipped}
    for case in run(cases, device, absent, options.photographs, together=options.quick):
        result["cases"].append(case)
        skipped += [f"{case['kind']}, {name}: {why}" for name, why in case["skipped"].items()]
        result["skipped"] = list(dict.fromkeys(skipped))
        # Written after each case, so that an interrupted run keeps its finished results.
        record(path, result, quiet=True, about=options.about)

    print(tables.speeds(result["cases"]), tables.costs(result["cases"]), sep="\n\n")
    for line in result["skipped"]:
        print(f"skipped: {line}")
    print(f"written to {path}")
    return result


if __name__ == "__main__":
    main()
