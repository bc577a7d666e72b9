"""Pickles written by hand, which can have content that no Python object is pickled to."""

import struct
from typing import Any, NamedTuple


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: Any
    arguments: tuple


class Persistent(NamedTuple):
    pid: Any


class Built(NamedTuple):
    made: Any
    state: Any


def dump(value):
    """Returns a pickle written by hand, which can have content that no Python object is pickled to."""
    return b"\x80\x02" + emit(value) + b"."


def emit(value):
    match value:
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return emit(function) + emit(arguments) + b"R"
        case Persistent(pid):
            return emit(pid) + b"Q"
        case Built(made, state):
            return emit(made) + emit(state) + b"b"
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case tuple() | list():
            return b"(" + b"".join(map(emit, value)) + (b"t" if isinstance(value, tuple) else b"l")
        case dict():
            return b"}(" + b"".join(emit(item) for pair in value.items() for item in pair) + b"u"
