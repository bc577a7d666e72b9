"""Reduces traces of ``jax.profiler`` to the time of each kind of work on the device."""

import collections
import pathlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks.flops import CONVOLUTIONS, PRODUCTS
from gradrev_jax.training.update import INPUT_SCOPE, OPTIMIZER_SCOPE

OPTIMIZER, INPUT, COPIES, OTHER, IDLE = "optimizer", "input", "copies", "other", "idle"
KINDS = (CONVOLUTIONS, PRODUCTS, OPTIMIZER, INPUT, COPIES, OTHER)
# Patterns in the names of library kernels; they are used if the instruction of a kernel is unknown.
LIBRARY_KERNELS = {
    COPIES: re.compile(r"memcpy|memset", re.IGNORECASE),
    CONVOLUTIONS: re.compile(r"conv(?!ert)|fprop|dgrad|wgrad|nchw|nhwc|cudnn", re.IGNORECASE),
    PRODUCTS: re.compile(r"gemm|gemv|nvjet|cublas|cutlass|splitk|_dot_", re.IGNORECASE),
}
SENT = re.compile(r"memcpy.*(h2d|htod)", re.IGNORECASE)
COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.-]+) \(")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<rest>.*)$")


class Event(NamedTuple):
    """One piece of work on the device.

    Attributes:
      name: the name of the kernel or copy.
      start: the start time, in ns.
      duration: the duration, in ns.
      instruction: the HLO instruction that it belongs to; empty if the trace does not tell.
    """

    name: str
    start: float
    duration: float
    instruction: str


def device_events(trace: pathlib.Path) -> list[Event]:
    """Reads the events of the device from a trace.

    Args:
      trace: the folder that ``jax.profiler.trace`` was given.

    Returns:
      The events of the first GPU's streams; without a GPU, the events of XLA on the threads of the CPU.

    Raises:
      ValueError: the trace has no such events.
    """
    data = [jax.profiler.ProfileData.from_file(str(path)) for path in sorted(trace.rglob("*.xplane.pb"))]
    planes = [plane for profile in data for plane in profile.planes]
    cards = sorted((plane for plane in planes if plane.name.startswith("/device:GPU")), key=lambda p: p.name)
    found = events_of(cards[0].lines, streams=True) if cards else []
    if not found:
        hosts = [plane for plane in planes if plane.name == "/host:CPU"]
        found = [event for plane in hosts for event in events_of(plane.lines, streams=False)]
    if not found:
        raise ValueError(f"the trace in {trace} has no work of a device: {[plane.name for plane in planes]}")
    return found


def events_of(lines: Iterable[Any], *, streams: bool) -> list[Event]:
    """Returns the kernels and copies of a plane's lines.

    Args:
      lines: the lines of a ``jax.profiler.ProfilePlane``.
      streams: whether to take all events of a GPU's streams, and no lines derived from them; if not, the
        events that name an instruction are taken from all lines.
    """
    found = []
    with warnings.catch_warnings():
        # On Python 3.12 creating jaxlib's types warns; where warnings are errors, that ends the process.
        warnings.simplefilter("ignore", DeprecationWarning)
        for line in lines:
            if streams and not line.name.startswith("Stream"):
                continue
            for event in line.events:
                instruction = str(dict(event.stats).get("hlo_op", ""))
                if (streams or instruction) and not event.name.startswith("end: "):
                    found.append(Event(event.name, event.start_ns, event.duration_ns, instruction))
    return found


def instruction_kinds(hlo: str) -> dict[str, str]:
    """Returns the kind of work of each instruction of a compiled program.

    A fusion that contains a convolution or a product is of that kind, whatever else it contains.

    Args:
      hlo: the text of the program, from ``jax.stages.Compiled.as_text``.
    """
    kinds: dict[str, str] = {}
    inside: dict[str, set[str]] = collections.defaultdict(set)  # kinds of each computation's instructions
    computation = ""
    for line in hlo.splitlines():
        if match := COMPUTATION.match(line):
            computation = match["name"]
        elif match := INSTRUCTION.match(line):
            kind = _kind_of_instruction(match["name"], match["rest"])
            called = re.search(r"calls=%?([\w.-]+)", match["rest"])  # a callee is printed before its callers
            fused = inside[called[1]] if called else set()
            kinds[match["name"]] = next((main for main in (CONVOLUTIONS, PRODUCTS) if main in fused), kind)
            inside[computation].add(kinds[match["name"]])
    return kinds


def _kind_of_instruction(name: str, rest: str) -> str:
    scopes = re.search(r'op_name="([^"]*)"', rest)
    path = scopes[1].split("/") if scopes else []
    if OPTIMIZER_SCOPE in path:
        return OPTIMIZER
    if INPUT_SCOPE in path:
        return INPUT
    target = re.search(r'custom_call_target="([^"]*)"', rest)
    called = f"{target[1] if target else ''} {path[-1] if path else ''} {name}"
    if "cudnn$conv" in called or "conv_general_dilated" in called or name.startswith("convolution"):
        return CONVOLUTIONS
    if re.search(r"cublas|triton_gemm|dot_general|\bdot\b", called) or "gemm" in name:
        return PRODUCTS
    return OTHER


def kind_of(event: Event, kinds: Mapping[str, str]) -> str:
    """Returns the kind of an event: the kind of its instruction, or else the one that its name suggests.

    XLA's own kernels have the name of their instruction, with ``_`` for each character that is not a letter
    or digit.

    Args:
      event: the event.
      kinds: the kinds of the instructions, from ``instruction_kinds``, by name and by sanitised name.
    """
    if SENT.search(event.name):
        return INPUT
    if LIBRARY_KERNELS[COPIES].search(event.name):
        return COPIES
    found = kinds.get(event.instruction) or kinds.get(sanitized(event.name))
    by_name = (kind for kind, pattern in LIBRARY_KERNELS.items() if pattern.search(event.name))
    return found or next(by_name, OTHER)


def sanitized(name: str) -> str:
    """Returns a name as XLA writes it for a kernel.

    Example:
      >>> sanitized("loop_add_fusion.12")
      'loop_add_fusion_12'
    """
    return re.sub(r"\W", "_", name)


def reduce(events: Sequence[Event], hlo: str, steps: int, *, kernels: int = 15) -> dict[str, Any]:
    """Reduces a trace to seconds per step.

    Args:
      events: the events of all steps.
      hlo: the text of the program that they ran.
      steps: the number of steps.
      kernels: the number of the longest kernels to list.

    Returns:
      ``seconds_per_step`` by kind, where ``idle`` is the time between the first event and the last in which
      nothing ran; ``span_per_step``, the time from the first event to the last; and ``kernels``, the longest
      kernels with name, kind, seconds per step and times per step. Events that ran at the same time are all
      counted, so the kinds and ``idle`` may add up to more than the span.
    """
    kinds = instruction_kinds(hlo)
    kinds |= {sanitized(name): kind for name, kind in kinds.items()}
    seconds = dict.fromkeys(KINDS, 0.0)
    by_name: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for event in events:
        kind = kind_of(event, kinds)
        seconds[kind] += event.duration / 1e9 / steps
        by_name[event.name, kind].append(event.duration / 1e9)
    first = min(event.start for event in events)
    span = (max(event.start + event.duration for event in events) - first) / 1e9
    longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:kernels]
    return {
        "steps": steps,
        "span_per_step": span / steps,
        "seconds_per_step": {**seconds, IDLE: (span - busy(events)) / steps},
        "kernels": [
            {"name": name, "kind": kind, "seconds": sum(times) / steps, "times": len(times) / steps}
            for (name, kind), times in longest
        ],
    }


def busy(events: Iterable[Event]) -> float:
    """Returns the seconds in which at least one event ran.

    Example:
      >>> round(1e9 * busy([Event("a", 0, 10, ""), Event("b", 5, 10, ""), Event("c", 30, 5, "")]))
      20
    """
    total, until = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event.start):
        end = event.start + event.duration
        total += max(0.0, end - max(until, event.start))
        until = max(until, end)
    return total / 1e9
