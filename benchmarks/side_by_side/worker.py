"""One side's process: prepares a case, and does it once each time it is told to.

A line of JSON in, a line of JSON out. First comes ``{"side", "kind", "arguments"}``, answered when the case
has been done for the first time; then every ``run`` is answered with its time. The end of the input ends it.
"""

import json
import os
import resource
import sys
import time
from typing import Any, TextIO


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer until the input ends."""
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
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        _answer(answers, {"seconds": seconds, "peak_bytes": side.peak_memory() or resident, **outcome})


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    # What libraries print must not be taken for an answer.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, channel)
