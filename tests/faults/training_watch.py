"""What a training does to its process, seen from outside: programs, memory, threads and temporary files."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
import threading
import time

import jax
from jax import monitoring

from gradrev_jax.training.parallel import Parallel

COMPILED = "/jax/core/compile/backend_compile_duration"
TRACED = "/jax/core/compile/jaxpr_trace_duration"


def resident_bytes():
    """The resident memory of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass
class Watched:
    """What was seen of a training.

    Attributes:
      built: [(stage, step, event, function)], all that was traced or compiled; stages count from 0, and a
        step is the number of steps that the stage had begun.
      memory: {(stage, step): bytes}, the resident memory every so many steps.
      moments: {(stage, step): seconds}, when they were measured.
      threads: the names of the threads that were started and are left, but for tqdm's monitor, of
        which a process has one.
      files: the names of what is left in the folder of temporary files.
    """

    built: list = dataclasses.field(default_factory=list)
    memory: dict = dataclasses.field(default_factory=dict)
    moments: dict = dataclasses.field(default_factory=dict)
    threads: list = dataclasses.field(default_factory=list)
    files: list = dataclasses.field(default_factory=list)
    stage: int = -1
    step: int = 0

    def retraced(self):
        """The step's own program, traced or compiled anew after the first call of a stage."""
        return [entry for entry in self.built if entry[1] > 1 and "take_steps" in entry[3]]

    def built_after(self, step):
        """All that was traced or compiled after a step of the first stage."""
        return [entry for entry in self.built if entry[0] == 0 and entry[1] > step]


@contextlib.contextmanager
def watched(*, every=100):
    """Watches the trainings of the block; yields a ``Watched``, which is complete when the block is left."""
    seen = Watched()
    compile_steps = Parallel.compile

    def listen(event, seconds, **details):
        if event in (COMPILED, TRACED):
            seen.built.append((seen.stage, seen.step, event, str(details.get("fun_name"))))

    def compile_watched(self, *arguments, **settings):
        steps = compile_steps(self, *arguments, **settings)
        seen.stage, seen.step = seen.stage + 1, 0

        def call(state, inputs, targets):
            if seen.step % every == 0:
                seen.memory[seen.stage, seen.step] = resident_bytes()
                seen.moments[seen.stage, seen.step] = time.perf_counter()
            seen.step += len(jax.tree.leaves(targets)[0])
            return steps(state, inputs, targets)

        return call

    before = set(threading.enumerate())
    files = set(os.listdir(tempfile.gettempdir()))
    monitoring.register_event_duration_secs_listener(listen)
    Parallel.compile = compile_watched
    try:
        yield seen
    finally:
        Parallel.compile = compile_steps
        monitoring.unregister_event_duration_listener(listen)
        seen.threads = sorted(thread.name for thread in set(threading.enumerate()) - before)
        seen.threads = [name for name in seen.threads if name != "tqdm_monitor"]
        seen.files = sorted(set(os.listdir(tempfile.gettempdir())) - files)
