"""Trains and evaluates several systems with several seeds each, and records the numbers of every run.

    python -m benchmarks.systems --config=catalogue:pretrained --root=FOLDER --name=frozen \
        --systems=shared,pairwise,no_reversal,adde_m --seeds=10

Runs lie in ``runs/NAME/SYSTEM_SEED``. One that is finished is not trained again, so an interrupted study goes
on with the same command. Each run is evaluated with its prototypes alone, and after the memory's fine-tuning
if it has that stage; or with ``--ways``, its last stage with other fields of the protocol, in a report for
each way. ``gradrev-compare`` then compares the folders; the last line printed is its command.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from benchmarks.recording import record
from benchmarks.training_runs import trained_seconds
from benchmarks.ways import Way, parse_value, parse_way, protocol_fields
from gradrev_commands.config_files import find_config, read_config
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs.fields.table import names_with
from gradrev_jax.systems.objective import ENCODER, STAGES

# Metric -> its cut-offs in the record.
RECORDED = {"hit_rate": ("10", "30"), "ndcg": ("30",), "ndcg_target": ("30",), "ndcg_others": ("30",)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and evaluates all runs, and records them after each."""
    options = _parser().parse_args(arguments)
    runs: list[dict[str, Any]] = []
    ways = [parse_way(text) for text in options.ways]
    pairs = [(system, seed) for seed in range(options.seeds) for system in options.systems.split(",")]
    for system, seed in ProgressBar(pairs, desc=options.name, unit="run"):
        config = make_config(options, system, seed)
        directory = pathlib.Path(options.runs) / options.name / f"{system}_{seed}"
        runs.append({"system": system, "seed": seed, **measure(config, directory, ways)})
        path = pathlib.Path(options.results) / f"systems_{options.name}.json"
        given = {"config": options.config, "systems": options.systems, "ways": options.ways}
        record(path, {**given, "set": recorded_fields(options), "runs": runs}, quiet=True)
    folder = f"{options.runs}/{options.name}"
    reports = [(f", {way.name}", f"/report_{way.name}") for way in ways] or [("", "")]
    names = " ".join(
        f"'{system}{name}={folder}/{system}_{seed}{report}'"
        for name, report in reports
        for system, seed in pairs
    )
    print(f"gradrev-compare {names} --out={folder}/comparison")


def make_config(options: argparse.Namespace, system: str, seed: int) -> ConfigDict:
    """Returns the config of one run.

    Args:
      options: the options of the command line.
      system: words of ``configs/variants.py``, joined by +.
      seed: the seed of the run.
    """
    name, _, words = options.config.partition(":")
    config = read_config(find_config(name), ",".join(filter(None, (words, *system.split("+")))))
    fields = dict(assignment.split("=", 1) for assignment in options.set)
    config.seed = seed
    if options.root:
        config.data.root = options.root
    for field, text in fields.items():
        *path, last = field.split(".")
        section = config
        for part in path:
            section = section[part]
        section[last] = parse_value(section[last], text)
    return config


def measure(config: ConfigDict, directory: pathlib.Path, ways: Sequence[Way] = ()) -> dict[str, Any]:
    """Trains a run, unless it is finished, and evaluates each of its stages, or its last in several ways.

    Args:
      config: the config of the run.
      directory: the folder of the run.
      ways: the ways; each has a report of its own. Without any, each stage is evaluated as the config says.

    Returns:
      The seconds of the training, see ``trained_seconds``, and the numbers of each stage, or way.
    """
    seconds = {"training_seconds": trained_seconds(config, directory)}
    evaluated = {
        way.name: evaluate(directory, report=way.name, protocol=protocol_fields(config, way), progress=False)
        for way in ways
    } or {
        _stage_name(stage): evaluate(directory, stage=stage, progress=False)
        for stage in STAGES
        if stage in config.stages
    }
    return {**seconds, **{name: _numbers(metrics) for name, metrics in evaluated.items()}}


def _stage_name(stage: str) -> str:
    return "prototypes" if stage == ENCODER else "fine_tuned"


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers of one evaluation that are recorded."""
    unchanged = metrics["baselines"]["no_manipulation"]["hit_rate"]
    others = {
        f"{name}_hit_rate@{k}": by_metric["hit_rate"][k]
        for name, by_metric in metrics["baselines"].items()
        for k in RECORDED["hit_rate"]
        if name != "no_manipulation"
    }
    chosen = {name: metrics[name] for name in ("look", "normalize", "edit", "strength", "weights")}
    return {
        **{f"{name}@{k}": metrics[name][k] for name, ks in RECORDED.items() for k in ks},
        "no_manipulation_hit_rate@10": unchanged["10"],
        **{f"accuracy_{mean}": metrics["attribute_accuracy"][mean] for mean in ("micro", "macro")},
        **others,
        **_leakage(metrics["leakage"]),
        **chosen,
    }


def _leakage(leakage: dict[str, Any] | None) -> dict[str, float | None]:
    """Returns the mean leakage by each probe, if it was measured."""
    if leakage is None:
        return {}
    return {
        "leakage": leakage["mean"],
        "conditional_leakage": leakage["conditional_mean"],
        "fresh_own_accuracy": leakage["own_accuracy"],
        "mlp_leakage": leakage["mlp"]["mean"],
        "mlp_conditional_leakage": leakage["mlp"]["conditional_mean"],
        "knn_leakage": leakage["knn"]["mean"],
    }


def recorded_fields(options: argparse.Namespace) -> list[str]:
    """Returns the config fields of the command line, without those that say where files are here."""
    places = names_with("movable")
    return [field for field in options.set if field.split("=")[0] not in places]


def add_options(parser: argparse.ArgumentParser, *, systems: str) -> None:
    """Adds the options that studies of systems share.

    Args:
      parser: the parser of a study.
      systems: the default systems.
    """
    parser.add_argument("--config", default="catalogue:pretrained", help="name of a config, with its words")
    parser.add_argument("--root", help="folder of the catalogue; drawn garments have none")
    parser.add_argument("--name", required=True, help="name of the study")
    parser.add_argument(
        "--systems",
        default=systems,
        help="systems, comma-separated: words, joined by +",
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="config fields")
    parser.add_argument("--runs", default="runs", help="folder of the runs")
    parser.add_argument("--results", default="benchmarks/results", help="folder of the JSON file")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Trains systems with several seeds, and records them.")
    add_options(parser, systems="shared,pairwise,no_reversal,adde_m")
    parser.add_argument(
        "--ways", nargs="+", default=[], metavar="NAME:FIELD=VALUE,...", help="ways to evaluate each run"
    )
    return parser


if __name__ == "__main__":
    main()
