"""Runs one side in a process: prepares a case, and runs it once per request.

Each request and each answer is one line. The first request is ``{"side", "kind", "arguments"}`` in JSON,
which is answered after the first run of the case; then each request ``run`` is answered with the time of one
run. The process ends at the end of its input.
"""

import json
import os
import sys
import time
from typing import Any, TextIO

from benchmarks.resident_memory import peak_resident


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answers requests until the input ends."""
    request = json.loads(requests.readline())
    start = time.perf_counter()
    side: Any
    if request["side"] == "jax":
        from benchmarks.side_by_side import jax_side as side
    else:
        from benchmarks.side_by_side import torch_side as side
    imported = time.perf_counter()
    job = getattr(side, request["kind"])(**request["arguments"])
    prepared = time.perf_counter()
    job()
    done = time.perf_counter()
    _answer(answers, {"import": imported - start, "prepare": prepared - imported, "first": done - prepared})
    for _ in requests:
        start = time.perf_counter()
        outcome = job()
        seconds = time.perf_counter() - start
        peak = side.peak_memory() or peak_resident()
        _answer(answers, {"seconds": seconds, "peak_bytes": peak, **side.settings(), **outcome})


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    # Libraries may print to stdout, which must not be taken for an answer.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, channel)
