"""Trains without each attribute in turn, and measures how far the results keep what was left out.

    python -m benchmarks.unlabelled --config=catalogue:pretrained --root=FOLDER --name=frozen \
        --leave-out=category,color --systems=no_reversal,shared --seeds=3 \
        --ways plain: equal:weights=none,strength=1

One run per system, attribute and seed serves all ways, which are fields of the protocol after a name. Runs
lie in ``runs/NAME/SYSTEM_without_ATTRIBUTE_SEED``. One that is finished is not trained again, so an
interrupted study goes on with the same command. The first system, evaluated in the first way, is what all
others are compared with. ``--leave-out=nothing`` trains on all attributes, for the nuisances of drawn
garments alone.

The numbers of every run are in ``benchmarks/results/unlabelled_NAME.json``; the table and the figure are in
``runs/NAME``.
"""

import argparse
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from benchmarks.recording import record
from benchmarks.systems import add_options, make_config, recorded_fields
from benchmarks.training_runs import trained_seconds
from benchmarks.unlabelled_results import (
    MEASURES,
    Answers,
    Evaluated,
    read_answers,
    results_figure,
    results_table,
    summarize,
)
from benchmarks.ways import Way, parse_way, protocol_fields
from gradrev_jax.errors import ConfigError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs.builders import open_catalogue
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.overrides import override
from gradrev_jax.runs.protocol import Protocol, build_protocol, check_protocol

NOTHING = "nothing"
# What this study does not show, and evaluations need not compute, of what the protocol has fields for.
NOT_SHOWN = {"baselines": (), "leakage": False}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains and evaluates all runs, records them after each, and writes the table and the figure."""
    options = _parser().parse_args(arguments)
    systems, left_out = options.systems.split(","), options.leave_out.split(",")
    ways = [parse_way(text) for text in options.ways]
    check_all(options, systems, left_out, ways)
    path = pathlib.Path(options.results) / f"unlabelled_{options.name}.json"
    folder = pathlib.Path(options.runs) / options.name
    given = {"config": options.config, "systems": systems, "leave_out": left_out, "ways": options.ways}
    runs: list[dict[str, Any]] = []
    evaluated: list[Evaluated] = []
    todo = [(seed, name, system) for seed in range(options.seeds) for name in left_out for system in systems]
    for seed, name, system in ProgressBar(todo, desc=options.name, unit="run"):
        config = config_of(options, system, seed)
        config = without(config, name)
        word = re.sub(r"\W+", "_", name)
        directory = folder / f"{system}_without_{word}_{seed}"
        for way, answers, numbers in measure(config, directory, name, ways):
            what = {"left_out": name, "system": system, "way": way, "seed": seed}
            runs.append({**what, **numbers})
            evaluated.append(Evaluated(**what, answers=answers, numbers=numbers))
        result = {**given, "set": recorded_fields(options), "runs": runs}
        record(path, result, quiet=True)
    result |= summarize(evaluated, not_in_mean=(NOTHING,))
    record(path, result)
    text = results_table(result)
    (folder / "unlabelled.md").write_text(text, encoding="utf-8")
    results_figure(result).savefig(folder / "unlabelled.png", dpi=110)
    print(text)
    return result


def config_of(options: argparse.Namespace, system: str, seed: int) -> ConfigDict:
    """Returns the config of a run with all attributes.

    Args:
      options: the options of the command line.
      system: words of ``configs/variants.py``, joined by +.
      seed: the seed of the run.
    """
    return make_config(options, system, seed)


def without(config: ConfigDict, left_out: str) -> ConfigDict:
    """Returns a config that leaves an attribute out, or ``nothing``."""
    config = config.copy_and_resolve_references()
    config.data.leave_out = () if left_out == NOTHING else (left_out,)
    return config


def shown_fields(config: ConfigDict, way: Way) -> dict[str, Any]:
    """Returns the fields of a way, without what this study does not show.

    Raises:
      ConfigError: a value of another type.
    """
    return {**NOT_SHOWN, **protocol_fields(config, way)}


def evaluated_by(config: ConfigDict, way: Way) -> Protocol:
    """Returns the protocol that a way evaluates a run by.

    Raises:
      ConfigError: the protocol has no such field, or it cannot have this value.
    """
    config = config.copy_and_resolve_references()
    override(config, "protocol", shown_fields(config, way))
    check(config)
    return build_protocol(config)


def check_all(
    options: argparse.Namespace, systems: Sequence[str], left_out: Sequence[str], ways: Sequence[Way]
) -> None:
    """Checks all systems, ways and attributes before anything is trained.

    Raises:
      UserError: one of them is not there, stands twice, or cannot be evaluated.
    """
    for kind, names in (("systems", systems), ("leave-out", left_out), ("ways", [way.name for way in ways])):
        if len(set(names)) < len(names):
            raise ConfigError(f"--{kind} has a name twice: {', '.join(names)}")
    configs = [config_of(options, system, 0) for system in systems]
    protocols = [evaluated_by(config, way) for config in configs for way in ways]
    for protocol in protocols:
        if lacking := {k for _, k in MEASURES.values()} - set(protocol.ks):
            raise ConfigError(f"protocol.ks = {protocol.ks} lacks {', '.join(map(str, sorted(lacking)))}")
    for name in left_out:
        catalogue = open_catalogue(without(configs[0], name))
        for protocol in protocols:
            check_protocol(protocol, catalogue)


def measure(
    config: ConfigDict, directory: pathlib.Path, left_out: str, ways: Sequence[Way]
) -> list[tuple[str, Answers, dict[str, Any]]]:
    """Trains a run, unless it is finished, and evaluates its last stage in each way.

    Args:
      config: the config of the run.
      directory: the folder of the run.
      left_out: the attribute that it does not know, or ``nothing``.
      ways: the ways.

    Returns:
      The name of each way, the scores of its queries, and the numbers that are recorded.
    """
    seconds = trained_seconds(config, directory)
    measured = []
    for way in ways:
        metrics = evaluate(directory, protocol=shown_fields(config, way), progress=False)
        answers = read_answers(directory, left_out)  # before the next way replaces the report
        unchanged = metrics["baselines"]["no_manipulation"]
        beside = metrics.get("unlabelled", {}).get(left_out, {})
        numbers = {
            "training_seconds": seconds,
            "strength": metrics["strength"],
            "weights": metrics["weights"],
            **answers.means(),
            "chance": {"kept@10": beside.get("chance"), **_among(beside.get("chance_among_matches"))},
            "no_manipulation": {
                "hit_rate@10": unchanged["hit_rate"]["10"],
                "ndcg_others@30": unchanged["ndcg_others"]["30"],
                "kept@10": beside.get("no_manipulation", {}).get("kept@10"),
            },
            "nuisances": {name: each["near@10"] for name, each in metrics.get("nuisances", {}).items()},
        }
        measured.append((way.name, answers, numbers))
    return measured


def _among(chance: float | None) -> dict[str, float | None]:
    return {"kept_among_matches@10": chance}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measures how far results keep an attribute that was left out of training."
    )
    add_options(parser, systems="no_reversal")
    parser.add_argument("--leave-out", required=True, help="attributes, comma-separated, or nothing")
    parser.add_argument("--ways", nargs="+", default=["plain:"], metavar="NAME:FIELD=VALUE,...")
    return parser


if __name__ == "__main__":
    main()
