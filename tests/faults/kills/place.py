"""A run's folder, cache, engine and logs, and the commands that work there as processes of their own."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence

PROJECT = pathlib.Path(__file__).parents[3]
TRAIN, EVALUATE, INDEX = COMMANDS = ("train", "evaluate", "index")
STAGES = ("encoder", "memory")
TRAINED, FROZEN = KINDS = ("trained", "frozen")
PARTS_OF_CHECKPOINT = (
    "_CHECKPOINT_METADATA",
    *(f"{item}/{name}" for item in ("params", "rest") for name in ("_METADATA", "manifest.ocdbt", "d")),
)
STEP = re.compile(r"step_(\d+)")
BAR = re.compile(rf"({'|'.join(STAGES)}):[^\n]*?\| (\d+)/(\d+) \[")

# A run in miniature, which has all that a run may have: validation, checkpoints between those of the epochs,
# both stages. So many images that decoding and embedding take long enough to be met.
SETTINGS = """
    data.count=300 data.test_fraction=0.6 data.workers=1 model.width=0.03125 model.feature_dim=4
    train.batch_size=8 train.epochs=2 train.log_every=1 train.checkpoint_every=6
    stages=('encoder','memory')
    memory.triplets=32 memory.batch_size=4 memory.epochs=2 memory.learning_rate=1e-3
    protocol.ks=(1,5) protocol.batch_size=10 protocol.baselines=('oracle',) protocol.leakage=False
""".split()
KIND_SETTINGS = {TRAINED: ["train.mirror=True"], FROZEN: ["model.freeze_backbone=True"]}


@dataclasses.dataclass(frozen=True)
class Place:
    """Represents the folders of one run, and how its commands are started.

    Attributes:
      folder: what all of them are in.
      kind: whether its backbone is trained or frozen.
      shared: the folder of what all places share: compiled programs and fonts.
      settings: more fields of the config, as ``train.epochs=1``.
    """

    folder: pathlib.Path
    kind: str
    shared: pathlib.Path
    settings: Sequence[str] = ()

    @property
    def run(self) -> pathlib.Path:
        """The folder of the run."""
        return self.folder / "run"

    @property
    def cache(self) -> pathlib.Path:
        """The folder of its image cache."""
        return self.folder / "cache"

    @property
    def engine(self) -> pathlib.Path:
        """The folder of its vector engine."""
        return self.folder / "shop.db"

    @property
    def temporary(self) -> pathlib.Path:
        """The folder that its processes take for the system's temporary one."""
        return self.folder / "tmp"

    @property
    def fields(self) -> list[str]:
        """The fields of the config, as ``train.epochs=1``, each once."""
        given = [f"data.cache_dir={self.cache}", *SETTINGS, *KIND_SETTINGS[self.kind], *self.settings]
        return list({field.partition("=")[0]: field for field in given}.values())

    def arguments(self, command: str) -> list[str]:
        """Returns the line of a command, the same at every start."""
        line = [sys.executable, str(PROJECT / f"{command}.py"), f"--workdir={self.run}"]
        if command == INDEX:
            line.append(f"--engine=milvus:{self.engine}")
        if command == TRAIN:
            line.append(f"--config={PROJECT / 'configs' / 'garments.py'}")
            line += [f"--config.{field}" for field in self.fields]
        return line

    def log(self, command: str) -> pathlib.Path:
        """Returns the file that has what the last process of a command printed."""
        return self.folder / f"{command}.log"

    @contextlib.contextmanager
    def start(self, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Starts a command in a process group of its own, which is gone when the block ends."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "MPLCONFIGDIR": str(self.shared / "fonts"),
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": str(self.temporary),
        }
        environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(self.shared / "programs"))
        with _terminal(self.log(command)) as terminal:
            process = subprocess.Popen(
                self.arguments(command),
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                kill(process)

    def printed(self, command: str) -> str:
        """Returns what the last process of a command has printed until now."""
        return self.log(command).read_text(encoding="utf-8", errors="replace")

    def bars(self) -> dict[str, list[tuple[int, int]]]:
        """Returns the positions and totals that the bars of the stages have shown since the last start."""
        shown: dict[str, list[tuple[int, int]]] = {}
        for stage, position, total in BAR.findall(self.printed(TRAIN)):
            shown.setdefault(stage, []).append((int(position), int(total)))
        return shown

    def steps(self, stage: str) -> list[int]:
        """Returns the steps of a stage's checkpoints that are whole by their names, ascending."""
        found = (STEP.fullmatch(path.name) for path in _entries(self.run / "checkpoints" / stage))
        return sorted(int(match[1]) for match in found if match)

    def latest(self) -> dict[str, int]:
        """Returns the step of the newest checkpoint of each stage, 0 where there is none."""
        return {stage: max(self.steps(stage), default=0) for stage in STAGES}

    def writes_checkpoint(self, stage: str) -> bool:
        """Returns whether an unfinished checkpoint of a stage is there."""
        entries = _entries(self.run / "checkpoints" / stage)
        return any(path.name.startswith("step_") and not STEP.fullmatch(path.name) for path in entries)

    def removed(self, stage: str) -> list[str]:
        """Returns the names of the checkpoints of a stage that were moved aside to be removed."""
        return [path.name for path in _entries(self.run / "checkpoints" / stage / "removed")]

    def removes_checkpoint(self, stage: str) -> bool:
        """Returns whether a checkpoint of a stage is there in part."""
        folder = self.run / "checkpoints" / stage
        folders = [
            *(folder / f"step_{step}" for step in self.steps(stage)),
            *(folder / "removed" / name for name in self.removed(stage)),
        ]
        return any(not (each / name).exists() for each in folders for name in PARTS_OF_CHECKPOINT)

    def fills_cache(self) -> bool:
        """Returns whether an unfinished entry of the image cache is there."""
        return any(path.suffix == ".partial" for path in _entries(self.cache))

    def has_hidden(self, folder: str, prefix: str) -> bool:
        """Returns whether a folder of the run has an entry whose name starts like this."""
        return any(path.name.startswith(prefix) for path in _entries(self.run / folder))

    def engine_files(self) -> frozenset[tuple[str, int]]:
        """Returns the files of the engine with the times of their last change."""
        found = set()
        for path in self.engine.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_mtime_ns))
        return frozenset(found)

    def lines(self) -> list[str]:
        """Returns the lines of metrics.jsonl."""
        with contextlib.suppress(FileNotFoundError):
            return (self.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return []


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and all of its group with SIGKILL, if they are still there, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _terminal(log: pathlib.Path) -> Iterator[int]:
    """Makes a terminal, whose bars tell where a command is; what is printed there is copied into a file."""
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 200))

    with log.open("wb", buffering=0) as file:

        def copy() -> None:
            with contextlib.suppress(OSError):  # nobody has the terminal any more
                while printed := os.read(screen, 1 << 16):
                    file.write(printed)

        reader = threading.Thread(target=copy)
        reader.start()
        try:
            yield terminal
        finally:
            os.close(terminal)
            reader.join()
            os.close(screen)


@functools.cache
def has_engine() -> bool:
    """Returns whether the packages of the vector engine are installed."""
    import importlib.util

    return all(importlib.util.find_spec(name) for name in ("milvus_lite", "pymilvus"))


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    with contextlib.suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []
