"""Measures searches over the JSON API: four clients on loopback, 200 requests a second, for a minute.

    python benchmarks/serving.py

The server is a process of its own, over random features: 20,000 garments with 4,080 numbers each. Every
client keeps a connection open, and sends each request when it is due. The time of an answer counts from then,
so a request that waits for the one before it counts as slow. The requests pick one of a few garments, and
change one to three attributes of it, with strengths of their own.
"""

import argparse
import contextlib
import http.client
import importlib
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

import numpy as np

from benchmarks.recording import are_changed, machine_name, parse_flags, record
from benchmarks.resident_memory import resident
from benchmarks.schemas import SHOPPING100K_SIZES, schema_of_sizes

RETRIEVER = "benchmarks.serving:random_retriever"
ITEMS, WIDTH = 20_000, 340
PICKED = 16  # the garments that are edited again and again
MOST_CHANGES = 3


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--retriever", default=RETRIEVER, help="MODULE:FUNCTION that returns what is served")
    parser.add_argument("--workdir", help="a run that is served in place of random features")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=200, help="requests a second, of all clients together")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    settings = ("retriever", "workdir", "seconds", "rate", "clients", "k")
    options = parse_flags(
        parser,
        arguments,
        is_trial=lambda options: not options.serve and are_changed(parser, options, settings),
    )
    if options.serve:
        serve_here(options.retriever, options.workdir)
        return {}
    source = ["--workdir", options.workdir] if options.workdir else ["--retriever", options.retriever]
    command = [sys.executable, __file__, "--serve", *source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            started = time.perf_counter()
            port = int(_first_line(process).rsplit(":", 1)[1].strip("/\n"))
            result = {"start_seconds": round(time.perf_counter() - started, 2)}
            result |= measure(port, process.pid, options)
        finally:
            process.terminate()
    record(options.out / f"serving_{machine_name()}.json", result, about=options.about)
    print(json.dumps(result, indent=2))
    return result


def _first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("error: the server has ended; its message is above")
    return line


def serve_here(retriever: str, workdir: str | None) -> None:
    """Serves in this process on a free port, and prints the address.

    Args:
      retriever: MODULE:FUNCTION that returns the retriever.
      workdir: the run to open; None: the retriever's.
    """
    from gradrev_jax.serving.web.app import create_app
    from gradrev_jax.serving.web.server import listen, serve

    if workdir is None:
        module, _, name = retriever.partition(":")
        shop = getattr(importlib.import_module(module), name)()
    else:
        from gradrev_jax.serving.retriever import Retriever

        shop = Retriever.open(workdir)
    serve(create_app(shop), listen("127.0.0.1", 0), ready=lambda url: print(url, flush=True))


def random_retriever(
    items: int = ITEMS, width: int = WIDTH, open_network: Callable[[], Any] | None = None
) -> Any:
    """Returns a retriever of random features: noise around a prototype for each label.

    Args:
      items: the number of garments.
      width: the numbers of each attribute's feature.
      open_network: a function that returns the network that describes photographs; None: there is none.
    """
    from gradrev_jax.core.spaces import Fitted
    from gradrev_jax.data.catalogue import Catalogue
    from gradrev_jax.data.images.files import ImageFiles
    from gradrev_jax.evaluation.searching import Way
    from gradrev_jax.serving.gallery import EncodedGallery
    from gradrev_jax.serving.opening import ServedRun
    from gradrev_jax.serving.retriever import Retriever
    from gradrev_jax.serving.space import SearchSpace

    rng, schema = np.random.default_rng(0), schema_of_sizes(SHOPPING100K_SIZES)
    labels = np.stack([rng.integers(0, size, items) for size in schema.sizes], axis=1).astype(np.int32)
    memory = np.zeros((schema.num_values, schema.num_attributes, width), np.float32)
    own = (np.arange(schema.num_values), schema.attribute_of)
    memory[own] = rng.standard_normal((schema.num_values, width), np.float32)
    values = labels + np.asarray(schema.offsets)
    blocks = rng.standard_normal((items, schema.num_attributes, width), np.float32)
    blocks += memory[own][values]
    logits = rng.standard_normal((items, schema.num_values), np.float32)
    np.put_along_axis(logits, values, 3.0, axis=1)
    space = SearchSpace(
        schema=schema,
        missing="ignore",
        representation="features",
        fitted=Fitted(memory, np.zeros((schema.num_attributes, width), np.float32)),
        way=Way("global", "add"),
        look=None,
        temperatures=np.ones(schema.num_attributes),
    )
    none, names = np.zeros(0, np.int64), tuple(f"images/{row:06d}.jpg" for row in range(items))
    catalogue = Catalogue(
        schema,
        ImageFiles(pathlib.Path("random"), names),
        labels,
        {"train": none, "validation": none, "test": np.arange(items)},
    )
    gallery = EncodedGallery(space, "encoder", 0, blocks, logits)

    def no_network() -> Any:
        raise NotImplementedError("random features have no network")

    load = open_network or no_network
    return Retriever(ServedRun(pathlib.Path("random"), catalogue, np.arange(items), gallery, load))


def measure(port: int, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    """Sends the requests, and returns times, errors and the server's memory.

    Args:
      port: the port of the server.
      pid: its process.
      options: rate, clients, seconds and k.
    """
    attributes = _get(port, "/api/attributes")
    bodies = requests(attributes, options.k)
    send(port, bodies, rate=1e6, clients=options.clients, seconds=len(bodies) / 1e6)  # each once, to warm up
    memory, cpu = [resident(pid)["VmRSS"]], processor_seconds(pid)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(pid, memory, stop))
    watcher.start()
    started = time.perf_counter()
    times, errors = send(port, bodies, rate=options.rate, clients=options.clients, seconds=options.seconds)
    elapsed = time.perf_counter() - started
    stop.set()
    watcher.join()
    spent = processor_seconds(pid) - cpu
    milliseconds = 1e3 * np.array(times)
    quantiles = {f"p{q:g}": round(float(np.percentile(milliseconds, q)), 2) for q in (50, 90, 99, 99.9)}
    return {
        "items": attributes["items"],
        "clients": options.clients,
        "k": options.k,
        "asked_per_second": options.rate,
        "answered_per_second": round(len(times) / elapsed, 1),
        "requests": len(times),
        "errors": errors,
        "milliseconds": quantiles | {"max": round(float(milliseconds.max()), 2)},
        "cores_of_server": round(spent / elapsed, 2),
        "memory_mib": {
            "start": round(memory[0] / 2**20, 1),
            "end": round(resident(pid)["VmRSS"] / 2**20, 1),
            "largest": round(max(memory) / 2**20, 1),
        },
    }


def processor_seconds(pid: int) -> float:
    """Returns the seconds that all threads of a process have computed so far.

    Args:
      pid: the process.
    """
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _watch(pid: int, memory: list[int], stop: threading.Event) -> None:
    while not stop.wait(1.0):
        memory.append(resident(pid)["VmRSS"])


def _get(port: int, path: str) -> Any:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


def requests(attributes: dict[str, Any], k: int, count: int = 1000) -> list[bytes]:
    """Returns bodies of searches: edits of a few garments.

    Args:
      attributes: the answer of ``GET /api/attributes``.
      k: the number of results.
      count: the number of different requests.
    """
    rng = random.Random(0)
    picked = rng.sample(range(attributes["items"]), min(PICKED, attributes["items"]))
    bodies = []
    for _ in range(count):
        chosen = rng.sample(
            attributes["attributes"], min(rng.randint(1, MOST_CHANGES), len(attributes["attributes"]))
        )
        changes = [
            {
                "attribute": each["name"],
                "to": rng.choice(each["values"])["name"],
                "strength": round(rng.uniform(0.5, 1.5), 2),
            }
            for each in chosen
        ]
        bodies.append(json.dumps({"item": rng.choice(picked), "changes": changes, "k": k}).encode())
    return bodies


def send(
    port: int, bodies: Sequence[bytes], *, rate: float, clients: int, seconds: float
) -> tuple[list[float], int]:
    """Sends searches at a rate, and returns the seconds of all answers and the number of errors.

    Args:
      port: the port of the server.
      bodies: the bodies of the requests, sent in turn.
      rate: the number of requests a second, of all clients together.
      clients: the number of clients, each with a connection of its own.
      seconds: the time.
    """
    times, errors = list[float](), [0]
    start = time.perf_counter() + 0.05

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for turn in range(number, round(rate * seconds), clients):
            due = start + turn / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                connection.request(
                    "POST", "/api/search", bodies[turn % len(bodies)], {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200 or not content.startswith(b'{"items":'):
                    errors[0] += 1
            except (OSError, http.client.HTTPException):
                errors[0] += 1
                connection.close()
            times.append(time.perf_counter() - due)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, errors[0]


if __name__ == "__main__":
    main()
