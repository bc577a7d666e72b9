"""Trains and evaluates several systems with several seeds each, and records the numbers of every run.

    python -m benchmarks.systems --config=catalogue:pretrained --root=FOLDER --name=frozen \
        --systems=shared,pairwise,no_reversal,adde_m --seeds=10

Runs lie in ``runs/NAME/SYSTEM_SEED``. One that is finished is not trained again, so an interrupted study goes
on with the same command. Each run is evaluated with its prototypes alone, and after the memory's fine-tuning
if it has that stage. ``gradrev-compare`` then compares the folders; the last line printed is its command.
"""

import argparse
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from benchmarks.recording import record
from gradrev_commands.config_files import find_config, read_config
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs.fields.general import ENCODER, STAGES
from gradrev_jax.training.run import train

# Metric -> its cut-offs in the record.
RECORDED = {"hit_rate": ("10", "30"), "ndcg": ("30",), "ndcg_target": ("30",), "ndcg_others": ("30",)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and evaluates all runs, and records them after each."""
    options = _parser().parse_args(arguments)
    runs: list[dict[str, Any]] = []
    pairs = [(system, seed) for seed in range(options.seeds) for system in options.systems.split(",")]
    for system, seed in tqdm(pairs, desc=options.name, unit="run"):
        config = make_config(options, system, seed)
        directory = pathlib.Path(options.runs) / options.name / f"{system}_{seed}"
        runs.append({"system": system, "seed": seed, **measure(config, directory)})
        path = pathlib.Path(options.results) / f"systems_{options.name}.json"
        fields = [field for field in options.set if not field.startswith("data.cache_dir")]  # of this machine
        given = {"config": options.config, "systems": options.systems, "set": fields}
        record(path, {**given, "runs": runs}, quiet=True)
    names = " ".join(f"{system}={options.runs}/{options.name}/{system}_{seed}" for system, seed in pairs)
    print(f"gradrev-compare {names} --out={options.runs}/{options.name}/comparison")


def make_config(options: argparse.Namespace, system: str, seed: int) -> ConfigDict:
    """Returns the config of one run.

    Args:
      options: the options of the command line.
      system: a word of ``configs/variants.py``.
      seed: the seed of the run.
    """
    name, _, words = options.config.partition(":")
    config = read_config(find_config(name), ",".join(filter(None, (words, system))))
    fields = dict(assignment.split("=", 1) for assignment in options.set)
    config.update_from_flattened_dict({"data.root": options.root, "seed": seed})
    for field, text in fields.items():
        *path, last = field.split(".")
        section = config
        for part in path:
            section = section[part]
        section[last] = parse_value(section[last], text)
    return config


def parse_value(default: Any, text: str) -> Any:
    """Converts the text of a field to the type of its default.

    Example:
      >>> parse_value(1e-4, "0.1"), parse_value(("encoder",), "encoder,memory"), parse_value(None, "imagenet")
      (0.1, ('encoder', 'memory'), 'imagenet')
    """
    if isinstance(default, bool):
        return text.lower() == "true"
    if isinstance(default, tuple):
        return tuple(text.split(","))
    return text if default is None else type(default)(text)


def measure(config: ConfigDict, directory: pathlib.Path) -> dict[str, Any]:
    """Trains a run, unless it is finished, and evaluates each of its stages.

    Args:
      config: the config of the run.
      directory: the folder of the run.

    Returns:
      The seconds of the training and the numbers of each stage.
    """
    started = time.perf_counter()
    train(config, directory, progress=False)
    seconds = time.perf_counter() - started
    stages = {
        stage: evaluate(directory, stage=stage, progress=False) for stage in STAGES if stage in config.stages
    }
    return {
        "training_seconds": round(seconds, 1),
        **{_stage_name(stage): _numbers(metrics) for stage, metrics in stages.items()},
    }


def _stage_name(stage: str) -> str:
    return "prototypes" if stage == ENCODER else "fine_tuned"


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers of one evaluation that are recorded."""
    unchanged = metrics["baselines"]["no_manipulation"]["hit_rate"]
    chosen: dict[str, Any] = {name: metrics[name] for name in ("strength", "weights") if name in metrics}
    return {
        **{f"{name}@{k}": metrics[name][k] for name, ks in RECORDED.items() for k in ks},
        "no_manipulation_hit_rate@10": unchanged["10"],
        **{f"accuracy_{mean}": metrics["attribute_accuracy"][mean] for mean in ("micro", "macro")},
        **chosen,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Trains systems with several seeds, and records them.")
    parser.add_argument("--config", default="catalogue:pretrained", help="name of a config, with its words")
    parser.add_argument("--root", required=True, help="folder of the catalogue")
    parser.add_argument("--name", required=True, help="name of the study")
    parser.add_argument(
        "--systems", default="shared,pairwise,no_reversal,adde_m", help="words, comma-separated"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="config fields")
    parser.add_argument("--runs", default="runs", help="folder of the runs")
    parser.add_argument("--results", default="benchmarks/results", help="folder of the JSON file")
    return parser


if __name__ == "__main__":
    main()
