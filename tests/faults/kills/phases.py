"""The phases of a run in which it is killed: how each is met, and which one a killed process was in."""

import dataclasses
import json
import random
from collections.abc import Callable

from tests.faults.kills.place import EVALUATE, FROZEN, INDEX, STAGES, TRAIN, Place

Condition = Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Phase:
    """Represents a phase of a command.

    Attributes:
      name: the name of the phase.
      command: the command.
      watch: returns, for one process that is about to be started, the condition under which the phase has
        begun.
      seconds: the longest delay between this and the kill; the delay is drawn from 0 on.
    """

    name: str
    command: str
    watch: Callable[[Place, random.Random], Condition]
    seconds: float


def _steps(stage: str) -> Callable[[Place, random.Random], Condition]:
    """Waits for the record of a step that is drawn from those to come, while no checkpoint is written."""

    def watch(place: Place, rng: random.Random) -> Condition:
        first = place.latest()[stage]
        share = rng.random()

        def begun() -> bool:
            if not (shown := place.bars().get(stage)):
                return False
            target = first + 1 + int(share * (shown[0][1] - first - 1))
            last = last_record(place, stage)
            return last is not None and last >= target and not place.writes_checkpoint(stage)

        return begun

    return watch


def _writing(stage: str) -> Callable[[Place, random.Random], Condition]:
    """Waits for the first checkpoint of a stage that is written, or for a later one."""

    def watch(place: Place, rng: random.Random) -> Condition:
        first, is_first = place.latest()[stage], rng.random() < 0.5

        def begun() -> bool:
            if stage not in place.bars() or not place.writes_checkpoint(stage):
                return False
            return is_first or place.latest()[stage] > first

        return begun

    return watch


def _pruning(stage: str) -> Callable[[Place, random.Random], Condition]:
    """Waits until an old checkpoint that was moved aside is there in part, or no longer."""

    def watch(place: Place, rng: random.Random) -> Condition:
        seen = set()

        def begun() -> bool:
            if stage not in place.bars():
                return False
            aside = set(place.removed(stage))
            seen.update(aside)
            return place.removes_checkpoint(stage) or aside != seen

        return begun

    return watch


def _at_once(place: Place, rng: random.Random) -> Condition:
    return lambda: True


def _decoding(place: Place, rng: random.Random) -> Condition:
    return place.fills_cache


def _between(place: Place, rng: random.Random) -> Condition:
    def begun() -> bool:
        shown = place.bars().get(STAGES[0])
        return bool(shown) and shown[-1][0] == shown[-1][1]

    return begun


def _ended(place: Place, rng: random.Random) -> Condition:
    def begun() -> bool:
        shown = place.bars().get(STAGES[1])
        return bool(shown) and shown[-1][0] == shown[-1][1]

    return begun


def _encoding(command: str) -> Callable[[Place, random.Random], Condition]:
    return lambda place, rng: lambda: "image/s" in place.printed(command)


def _reporting(place: Place, rng: random.Random) -> Condition:
    return lambda: place.has_hidden("", ".report-")


def _filling(place: Place, rng: random.Random) -> Condition:
    before = place.engine_files()
    return lambda: place.engine_files() != before


# In the order in which a run meets them.
PHASES = (
    Phase("start", TRAIN, _at_once, 3.0),
    Phase("cache", TRAIN, _decoding, 0.4),
    Phase("encoder step", TRAIN, _steps("encoder"), 0.05),
    Phase("encoder checkpoint", TRAIN, _writing("encoder"), 0.1),
    Phase("encoder pruning", TRAIN, _pruning("encoder"), 0.02),
    Phase("between stages", TRAIN, _between, 1.0),
    Phase("memory step", TRAIN, _steps("memory"), 0.05),
    Phase("memory checkpoint", TRAIN, _writing("memory"), 0.1),
    Phase("memory pruning", TRAIN, _pruning("memory"), 0.02),
    Phase("end of training", TRAIN, _ended, 0.3),
    Phase("evaluation", EVALUATE, _encoding(EVALUATE), 1.0),
    Phase("report", EVALUATE, _reporting, 0.5),
    Phase("gallery", INDEX, _encoding(INDEX), 0.8),
    Phase("filling", INDEX, _filling, 1.0),
)


def last_record(place: Place, stage: str) -> int | None:
    """Returns the step of the last whole line of metrics.jsonl, if it is one of a stage."""
    for line in reversed(place.lines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        return record["step"] if record["stage"] == stage else None
    return None


def found_phase(
    place: Place, command: str, engine_before: frozenset[tuple[str, int]]
) -> tuple[str, int | None]:
    """Returns the phase that a killed process was in, by what it has left, and the step it had recorded."""
    if command == INDEX and place.engine_files() != engine_before:
        return "filling", None
    if command != TRAIN and "image/s" not in place.printed(command):
        return f"start of {command}", None
    if command == EVALUATE:
        return ("report" if place.has_hidden("", ".report-") else "evaluation"), None
    if command == INDEX:
        return "gallery", None
    if place.fills_cache():
        return ("embedding" if place.kind == FROZEN else "decoding"), None
    if not (bars := place.bars()):
        return "start", None
    stage = list(bars)[-1]
    step = last_record(place, stage)
    if place.writes_checkpoint(stage):
        return f"{stage} checkpoint", step
    if place.removes_checkpoint(stage):
        return f"{stage} pruning", step
    if bars[stage][-1][0] < bars[stage][-1][1]:
        return f"{stage} step", step
    return ("between stages" if stage == STAGES[0] else "end of training"), step
