"""Runs that are killed again and again, and compared with one that was not."""

import dataclasses
import pathlib
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.faults.kills.outcome import differences, outcome, repeated_steps
from tests.faults.kills.phases import PHASES, Phase, found_phase
from tests.faults.kills.place import COMMANDS, INDEX, KINDS, TRAIN, Place, has_engine, kill

PAUSE = 0.003  # seconds between two looks at a process
LONGEST = 900.0  # seconds that a command may take


@dataclasses.dataclass(frozen=True)
class Kill:
    """Represents a process that was killed.

    Attributes:
      trial: the number of the trial.
      kind: the kind of run.
      aimed: the phase that was to be met.
      phase: the phase that was met, by what the process has left.
      step: the last step that it had recorded, of the stage that it was in.
      checkpoints: the newest checkpoint of each stage that was whole.
      seconds: how long the process lived.
      delay: how much of this it lived in the phase.
    """

    trial: int
    kind: str
    aimed: str
    phase: str
    step: int | None
    checkpoints: dict[str, int]
    seconds: float
    delay: float


class Trial:
    """Represents one run, its kills, and what was found wrong with it.

    Args:
      number: the number of the trial.
      place: its folders.
      rng: what its delays are drawn from.
      tell: is called after each kill.
    """

    def __init__(
        self, number: int, place: Place, rng: random.Random, tell: Callable[[Kill], None] = lambda kill: None
    ) -> None:
        self.number, self.place, self._rng, self._tell = number, place, rng, tell
        self.kills: list[Kill] = []
        self.faults: list[str] = []
        self.starts = 0

    def go(self, phases: Sequence[Phase], commands: Sequence[str] = COMMANDS) -> None:
        """Runs each command until it ends, and kills it in each of its phases."""
        for command in commands:
            for phase in (each for each in phases if each.command == command):
                self.kill_in(phase)
            if not self._end(command):
                return

    def compare(self, wanted: Any) -> None:
        """Compares the outcome with that of the run that was not killed."""
        if not self.faults:
            self.faults += [*repeated_steps(self.place), *differences(wanted, outcome(self.place))]

    def kill_in(self, phase: Phase) -> None:
        """Starts a command, and kills it after a random delay in a phase, unless it ends before."""
        place, delay = self.place, self._rng.uniform(0, phase.seconds)
        begun, before, engine = phase.watch(place, self._rng), place.latest(), place.engine_files()
        began = time.monotonic()
        with place.start(phase.command) as process:
            self.starts += 1
            met = _wait(process, began, begun)
            if met:
                time.sleep(delay)
            ended = process.poll() is not None
            kill(process)
        seconds = time.monotonic() - began
        self._check_start(phase.command, before)
        if ended:
            self._check_status(phase.command, process)
        elif not met:
            self.faults.append(f"{phase.command} had not ended after {seconds:.0f} s")
        else:
            found, step = found_phase(place, phase.command, engine)
            what = (self.number, place.kind, phase.name, found, step, place.latest())
            self.kills.append(Kill(*what, round(seconds, 3), round(delay, 4)))
            self._tell(self.kills[-1])

    def _end(self, command: str) -> bool:
        """Starts a command and lets it end; returns whether it did well."""
        before, began = self.place.latest(), time.monotonic()
        with self.place.start(command) as process:
            self.starts += 1
            _wait(process, began, lambda: False)
        self._check_start(command, before)
        return self._check_status(command, process)

    def _check_status(self, command: str, process: subprocess.Popen[bytes]) -> bool:
        if process.returncode:
            end = self.place.printed(command)[-2000:]
            self.faults.append(f"{command} ended with {process.returncode}: {end}")
        return not process.returncode

    def _check_start(self, command: str, before: dict[str, int]) -> None:
        """Checks that training went on exactly where the newest whole checkpoint was."""
        if command != TRAIN:
            return
        for stage, shown in self.place.bars().items():
            if shown[0][0] != before[stage]:
                self.faults.append(
                    f"{stage} went on from step {shown[0][0]}, but its newest checkpoint was {before[stage]}"
                )


def plan(kills: int, phases: Sequence[Phase], rng: random.Random) -> list[list[Phase]]:
    """Divides kills into trials, each of which has every phase once, but for the last, which has some."""
    whole, rest = divmod(kills, len(phases))
    some = sorted(rng.sample(range(len(phases)), rest))
    return [*([list(phases)] * whole), *([[phases[n] for n in some]] if rest else [])]


def usable_phases(phases: Sequence[Phase] = PHASES) -> tuple[Phase, ...]:
    """Returns the phases whose packages are installed."""
    return tuple(phase for phase in phases if phase.command != INDEX or has_engine())


def run_all(
    folder: pathlib.Path, kills: int, seed: int, tell: Callable[[Kill], None] = lambda kill: None
) -> dict[str, Any]:
    """Runs trials until there were so many kills, and returns the record of all.

    Args:
      folder: an empty folder; what trials without a fault leave there is removed.
      kills: the number of kills.
      seed: what phases and delays are drawn from.
      tell: is called after each kill.
    """
    rng, phases = random.Random(seed), usable_phases()
    commands = [command for command in COMMANDS if any(phase.command == command for phase in phases)]
    wanted: dict[str, Any] = {}
    trials: list[Trial] = []
    began = time.monotonic()
    while (done := sum(len(trial.kills) for trial in trials)) < kills:
        number = len(trials)
        kind = KINDS[number % len(KINDS)]
        if kind not in wanted:
            wanted[kind] = reference(Place(folder / f"whole-{kind}", kind, folder / "shared"), commands)
        place = Place(folder / f"trial-{number}", kind, folder / "shared")
        trial = Trial(number, place, rng, tell)
        trials.append(trial)
        trial.go(plan(kills - done, phases, rng)[0], commands)
        trial.compare(wanted[kind])
        if not trial.faults:
            shutil.rmtree(place.folder)
        if not trial.kills:
            break
    return record(trials, seed, time.monotonic() - began)


def reference(place: Place, commands: Sequence[str] = COMMANDS) -> dict[str, Any]:
    """Runs all commands without a kill, and returns the outcome.

    Raises:
      RuntimeError: a command fails.
    """
    trial = Trial(-1, place, random.Random(0))
    trial.go((), commands)
    if trial.faults:
        raise RuntimeError("\n".join(trial.faults))
    return outcome(place)


def record(trials: Sequence[Trial], seed: int, seconds: float) -> dict[str, Any]:
    """Returns the record of some trials, with a summary by phase."""
    kills = [each for trial in trials for each in trial.kills]
    faults = {str(trial.number): trial.faults for trial in trials if trial.faults}
    by_phase = {
        phase: {
            "kills": len(met := [each for each in kills if each.phase == phase]),
            "seconds": [min(each.seconds for each in met), max(each.seconds for each in met)],
        }
        for phase in sorted({each.phase for each in kills})
    }
    return {
        "kills": len(kills),
        "trials": len(trials),
        "starts": sum(trial.starts for trial in trials),
        "seed": seed,
        "seconds": round(seconds, 1),
        "trials_with_faults": len(faults),
        "by_phase": by_phase,
        "faults": faults,
        "all": [dataclasses.asdict(each) for each in kills],
    }


def _wait(process: subprocess.Popen[bytes], began: float, begun: Callable[[], bool]) -> bool:
    """Waits until a condition holds, or the process has ended; returns whether the former came first."""
    while process.poll() is None:
        if begun():
            return True
        if time.monotonic() - began > LONGEST:
            return False
        time.sleep(PAUSE)
    return False
