"""Collects all that a run leaves when it has ended, in a form that two runs can be compared in."""

import hashlib
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from tensorboardX.proto import event_pb2

from tests.faults.kills.place import INDEX, STAGES, Place

TIMING = ("images_per_second", "input_wait")
COLLECTION = "gradrev_gallery"


def outcome(place: Place) -> dict[str, Any]:
    """Returns all that a run and its commands have left; times alone are left aside.

    Arrays stand as hashes of their bytes, so that equal outcomes are equal to the bit.
    """
    records = [json.loads(line) for line in place.lines()]
    report = place.run / "report"
    parts: dict[str, Any] = {
        "metrics.jsonl": [_without(record, TIMING) for record in records],
        "checkpoints": {stage: _checkpoints(place, stage) for stage in STAGES},
        "tensorboard": {stage: _told(place.run / "tensorboard" / stage) for stage in STAGES},
        "files": sorted(_names(place)),
        "cache": {path.name: _digest(path.read_bytes()) for path in sorted(place.cache.iterdir())},
    }
    if (report / "metrics.json").exists():
        parts["report/metrics.json"] = json.loads((report / "metrics.json").read_text())
        parts["report/report.md"] = (report / "report.md").read_text()
        with np.load(report / "queries.npz", allow_pickle=False) as queries:
            parts["report/queries.npz"] = {name: _array(queries[name]) for name in queries.files}
    if place.engine.exists():
        (kept,) = (place.run / "serving").iterdir()
        parts["gallery"] = {path.name: _array(np.load(path)) for path in sorted(kept.glob("*.npy"))}
        parts["engine"] = _engine_rows(place)
        parts["index.py"] = place.printed(INDEX).strip().splitlines()[-1].replace(str(place.folder), "")
    return parts


def differences(wanted: Any, found: Any, where: str = "") -> list[str]:
    """Returns in what two outcomes differ, a line each."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        lines = []
        for name in sorted(wanted.keys() | found.keys(), key=str):
            inner = f"{where}/{name}" if where else str(name)
            if name not in found or name not in wanted:
                lines.append(f"{inner} is {'missing' if name in wanted else 'new'}")
            else:
                lines += differences(wanted[name], found[name], inner)
        return lines
    if isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            gone = [each for each in wanted if each not in found]
            new = [each for each in found if each not in wanted]
            return [
                f"{where} has {len(found)} entries, not {len(wanted)}; gone {_short(gone)}, new {_short(new)}"
            ]
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for n, (a, b) in pairs for line in differences(a, b, f"{where}[{n}]")]
    return [] if wanted == found else [f"{where} is {_short(found)}, not {_short(wanted)}"]


def repeated_steps(place: Place) -> list[str]:
    """Returns which records of metrics.jsonl are there twice: of one stage, step and kind."""
    seen, twice = set(), []
    for line in place.lines():
        record = json.loads(line)
        kind = "loss" if "loss" in record else "validation"
        if (key := (record["stage"], record["step"], kind)) in seen:
            twice.append(f"metrics.jsonl has {kind} of step {key[1]} of {key[0]} twice")
        seen.add(key)
    return twice


def read_events(path: pathlib.Path) -> Iterator[Any]:
    """Yields the whole events of a TensorBoard file: a length, its checksum, the event and its checksum."""
    content, start = path.read_bytes(), 0
    while start + 12 <= len(content):
        length = int.from_bytes(content[start : start + 8], "little")
        if start + 12 + length + 4 > len(content):
            return  # torn by the kill
        yield event_pb2.Event.FromString(content[start + 12 : start + 12 + length])
        start += 12 + length + 4


def _told(folder: pathlib.Path) -> list[tuple[str, int, float]]:
    """Returns the numbers that TensorBoard shows of a stage: what a later start purges is gone."""
    shown: list[tuple[str, int, float]] = []
    for path in sorted(folder.glob("events.*")):
        for event in read_events(path):
            if event.HasField("session_log"):
                shown = [each for each in shown if each[1] < event.step]
            shown += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    kept = [each for each in shown if not each[0].endswith(TIMING)]
    return sorted((tag, step, str(value) if math.isnan(value) else value) for tag, step, value in kept)


def _checkpoints(place: Place, stage: str) -> dict[int, dict[str, str]]:
    """Returns the arrays of all checkpoints of a stage, by the step."""
    found = {}
    with ocp.PyTreeCheckpointer() as reader:
        for step in place.steps(stage):
            folder = place.run / "checkpoints" / stage / f"step_{step}"
            arrays = {}
            for item in ("params", "rest"):
                try:
                    flat = ocp.tree.to_flat_dict(reader.restore(folder / item), sep="/")
                except Exception as error:  # the reader raises nearly anything on a folder that is not whole
                    flat = {}
                    arrays[item] = f"cannot be read: {type(error).__name__}"
                arrays |= {f"{item}/{name}": _array(np.asarray(leaf)) for name, leaf in flat.items()}
            found[step] = arrays
    return found


def _names(place: Place) -> Iterator[str]:
    """Yields the names of all files and empty folders of a run, except for those that are drawn at random."""
    for path in place.run.rglob("*"):
        name = path.relative_to(place.run)
        if name.parts[0] == "tensorboard" or (name.parts[0] == "checkpoints" and len(name.parts) > 3):
            continue
        if name.parts[0] == "serving" and len(name.parts) > 1:  # named by the settings, which have paths
            parts, _, _ = name.parts[1].rpartition("_")
            name = pathlib.Path("serving", parts, *name.parts[2:])
        yield str(name)


def _engine_rows(place: Place) -> list[str]:
    """Returns all rows of the engine's collection, a digest each, in their order."""
    from pymilvus import MilvusClient

    client = MilvusClient(str(place.engine))
    try:
        client.load_collection(COLLECTION)
        rows = client.query(COLLECTION, filter="row >= 0", output_fields=["*"], limit=16_384)
    finally:
        client.close()
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(str(place.engine))
    described = sorted((row["row"], json.dumps(_plain(row), sort_keys=True)) for row in rows)
    return [f"{number} {_digest(text.encode())}" for number, text in described]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in row.items()}


def _array(array: np.ndarray) -> str:
    content = np.ascontiguousarray(array)
    return f"{content.dtype} {list(content.shape)} {_digest(content.tobytes())}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _without(record: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
