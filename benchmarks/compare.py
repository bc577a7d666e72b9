"""gradrev_jax beside the PyTorch reference, in one run.

    python benchmarks/compare.py --photographs=FOLDER

Each variant runs in a process of its own; all are warmed up, and then take turns, so that what else the
machine does meets them alike. Measured are train steps, inference, prototypes, the whole evaluation at
Shopping100k's sizes, and, with --photographs (a folder of images with an attributes.csv, see README.md),
loading; of each the median and the spread, peak memory, and the time to the end of the first, imports and
compilation included. It runs on a GPU where both sides find one, and on the CPU otherwise; what is not
installed is skipped, and said. On two CPU cores it takes about 20 minutes; on a GPU ``--quick`` leaves out
all but the paper's sizes, see docs/gpu.md.
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
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # where it is run as a file, not with -m

from benchmarks.evaluation import KS, random_evaluation
from benchmarks.recording import machine_name, record
from benchmarks.side_by_side import inputs, tables
from benchmarks.side_by_side.cases import Case, plan, quick_plan, tiny
from benchmarks.side_by_side.jax_side import flop_per_image
from benchmarks.side_by_side.turns import measure, measure_together
from gradrev_jax.core.manipulation import class_prototypes

INSTALL = "install it with pip install -c constraints.txt -e '.[torch]'"
RESULTS = pathlib.Path(__file__).parent / "results"


def probe(code: str) -> str | None:
    """What a line of Python prints in a process of its own; None where it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def missing() -> dict[str, str]:
    """Library -> why its part is skipped."""
    return {
        name: f"{name} is not installed; {INSTALL}"
        for name in ("torch", "faiss")
        if probe(f"import {name}") is None
    }


def pick_device(wanted: str) -> str:
    """``cpu`` or ``cuda``: a GPU only where both sides find one, unless asked for."""
    if wanted != "auto":
        return wanted
    ours = probe("import jax; print(jax.default_backend())") == "gpu"
    theirs = probe("import torch; print(torch.cuda.is_available())")
    if ours and theirs == "False":
        print("torch finds no GPU, so both sides run on the CPU")
    return "cuda" if ours and theirs != "False" else "cpu"


def prepare_evaluation(case: Case, folder: pathlib.Path) -> dict[str, Any]:
    """Write the features and queries of an evaluation for both sides; its arguments."""
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
    """Largest difference between two variants' metrics; None where fewer than two have some."""
    rows = [
        [value for by_k in result["metrics"].values() for value in by_k.values()]
        for result in results.values()
        if "metrics" in result
    ]
    return float(np.ptp(np.asarray(rows), axis=0).max()) if len(rows) > 1 else None


def arguments_of(case: Case, folder: pathlib.Path, photographs: pathlib.Path | None) -> dict[str, Any]:
    """Returns the arguments of both sides' functions, having written what they read into a new folder."""
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
    """Measures the cases; yields each when it is done.

    Args:
      cases: what.
      device: ``cpu`` or ``cuda``.
      absent: library -> why its part is skipped.
      photographs: folder of images, for loading.
      together: whether all workers start first, see ``measure_together``.
    """
    skip = {"torch": absent["torch"]} if "torch" in absent else {}
    with tempfile.TemporaryDirectory() as folder:
        if together:
            planned = [
                (case, arguments_of(case, pathlib.Path(folder) / str(number), photographs))
                for number, case in enumerate(cases)
            ]
            for case, measured in zip(cases, measure_together(planned, device, skip=skip), strict=True):
                yield described(case, measured)
            return
        for number, case in enumerate(bar := tqdm(cases, unit="case")):
            bar.set_description(case.name)
            arguments = arguments_of(case, pathlib.Path(folder) / str(number), photographs)
            without_faiss = case.kind == "evaluation" and "faiss" in absent
            why = {"torch": absent["faiss"], **skip} if without_faiss else skip
            yield described(case, measure(case, device, arguments=arguments, skip=why))


def described(case: Case, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a case and what was measured, as the result has them."""
    if case.kind in ("train_step", "inference"):
        flop = flop_per_image(case.kind, case.sizes)
        for result in measured["results"].values():
            result["flop_per_second"] = flop * result["units_per_second"]
    difference = disagreement(measured["results"])
    return {
        "kind": case.kind,
        "sizes": case.sizes,
        "unit": case.unit,
        **measured,
        **({} if difference is None else {"largest_difference_of_metrics": difference}),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write the result, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=pathlib.Path, help="folder with images and an attributes.csv")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", nargs="+", choices=tuple(tables.KINDS), help="kinds of cases; all if unset")
    parser.add_argument(
        "--match", default="", help="cases with this in their names, as 'batch 64 attributes 12'"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument(
        "--quick", action="store_true", help="the paper's sizes alone, all workers started first: for a GPU"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="folder of compare_MACHINE.json")
    options = parser.parse_args(arguments)
    if options.photographs and not (options.photographs / "attributes.csv").is_file():
        parser.error(f"--photographs={options.photographs}: it has no attributes.csv")

    # Before JAX looks for a GPU: this process would keep most of its memory from the workers.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device, absent = pick_device(options.device), missing()
    path = options.out / f"compare_{machine_name() if device == 'cuda' else 'cpu'}.json"
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
        record(path, result, quiet=True)  # whoever ends it keeps what is done

    print(tables.speeds(result["cases"]), tables.costs(result["cases"]), sep="\n\n")
    for line in result["skipped"]:
        print(f"skipped: {line}")
    print(f"written to {path}")
    return result


if __name__ == "__main__":
    main()
