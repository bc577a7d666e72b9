"""Follows the instructions of a pickle on a stack of plain values, without Python's unpickler."""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from gradrev_jax.errors import WeightsError

MOST_INSTRUCTIONS = 2**20  # some 40 for an array or a tensor
LONGEST_NAME = 200  # of a global, in an error
# Instructions that push what follows them in the pickle.
INTEGERS = {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4"}
FLOATS = {"FLOAT", "BINFLOAT"}
BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
OLD_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"}
CONSTANTS = INTEGERS | FLOATS | BYTES | TEXTS | OLD_TEXTS
SINGLETONS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}  # None: up to the mark
EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
GROUPS = {"DICT", "LIST", "FROZENSET"}
SKIPPED = {"PROTO", "FRAME"}


class _Mark:
    """Stands on the stack where the items of a tuple, a list or a dict begin."""


class Instructions:
    """Follows the instructions of one pickle; a subclass says what its names and calls stand for.

    Nothing is looked up or called but the methods of the subclass. Each instruction adds no more to memory
    than its own bytes and a few references, whatever it declares: ``genops`` checks lengths before it reads,
    and the memo is a dict. Values may hold themselves, or be shared so often that their text, their hash or
    their comparison would never end: so no value but a plain one is hashed, and none may be compared or shown
    without a bound.

    Attributes:
      objects: what the pickle should hold, for errors.
      one: one of them, with its article.
      names: what stands for each global name that the pickle may have, by module and name.
      advice: what to do if it holds others.
      unneeded: the instructions that are refused by name.
    """

    objects: str
    one: str
    names: ClassVar[Mapping[tuple[str, str], Any]]
    advice: str
    unneeded: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = MOST_INSTRUCTIONS

    def find(self, module: Any, name: Any) -> Any:
        """Returns the stand-in of a global name, if it is one of those that the objects need."""
        if type(module) is not str or type(name) is not str:  # the message would show any other in full
            raise ValueError("the name of a global is no string")
        if (module, name) not in self.names:
            shown = f"{module}.{name}"[:LONGEST_NAME]
            raise WeightsError(
                f"has {shown!r}, which is not {self.one}; nothing of the file was run; {self.advice}"
            )
        return self.names[module, name]

    def call(self, function: Any, arguments: Any) -> Any:
        """Returns the stand-in of the result of a call."""
        raise NotImplementedError

    def set_state(self, target: Any, state: Any) -> None:
        """Sets the state of what stands for an object."""
        raise NotImplementedError

    def refer(self, pid: Any) -> Any:
        """Returns the stand-in of an object outside of the pickle."""
        raise ValueError("it refers to what is outside of it")

    def check_key(self, key: Any) -> bool:
        """Returns whether an item of a dict, or of a set, is kept; keys that may not be hashed are not."""
        return is_plain(key)

    def spend(self, count: int) -> None:
        """Counts work as so many instructions.

        Raises:
          WeightsError: the pickle has too many.
        """
        self._left -= count
        if self._left < 0:
            raise WeightsError(
                f"has more than {MOST_INSTRUCTIONS:,} instructions, too many for {self.objects}; "
                f"{self.advice}"
            )

    def follow(self, content: bytes) -> Any:
        """Follows a pickle up to its end; returns what it would make.

        Raises:
          WeightsError: it has objects that it may not have, or more instructions than one needs.
          Exception: it is damaged; ``pickletools`` raises errors of many types.
        """
        self._left = MOST_INSTRUCTIONS
        for opcode, argument, _ in pickletools.genops(content):
            self.spend(1)
            self._step(opcode.name, argument)
        (result,) = self._stack
        return result

    def _step(self, name: str, argument: Any) -> None:
        """Follows one instruction."""
        stack = self._stack
        if name in self.unneeded:
            raise WeightsError(
                f"has the instruction {name}, which no dict of {self.objects} needs; {self.advice}"
            )
        if name in CONSTANTS:
            stack.append(argument)
        elif name in SINGLETONS:
            stack.append(SINGLETONS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack.append(tuple(self._pop(TUPLES[name])))
        elif name in GROUPS:
            stack.append(self._grouped(name, self._pop(None)))
        elif name not in SKIPPED and name != "STOP":
            self._METHODS.get(name, Instructions._refuse)(self, argument)

    def _refuse(self, argument: Any) -> None:
        raise ValueError("it has an instruction that neither numbers nor names need")

    def _grouped(self, name: str, items: list[Any]) -> Any:
        if name == "LIST":
            return items
        if name == "FROZENSET":
            return frozenset(item for item in items if self.check_key(item))
        return self._fill({}, items)

    def _fill(self, target: Any, items: list[Any]) -> Any:
        if not isinstance(target, dict):
            raise ValueError("it sets an item of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if self.check_key(key):
                target[key] = value
        return target

    def _pop(self, count: int | None) -> list[Any]:
        """Removes the last items of the stack; without a count, those after the last mark, and the mark."""
        stack = self._stack
        if count is None:
            mark = next((place for place in reversed(range(len(stack))) if stack[place] is _Mark), -1)
            start, keep = mark + 1, mark
        else:
            start = keep = len(stack) - count
        if keep < 0:
            raise ValueError("it takes more from its stack than there is")
        items = stack[start:]
        del stack[keep:]
        return items

    def _mark(self, _: Any) -> None:
        self._stack.append(_Mark)

    def _repeat(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _drop(self, _: Any) -> None:
        self._pop(1)

    def _drop_marked(self, _: Any) -> None:
        self._pop(None)

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put(self, argument: Any) -> None:
        self._memo[int(argument)] = self._stack[-1]

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[int(argument)])

    def _name(self, argument: str) -> None:
        self._stack.append(self.find(*argument.split(" ", 1)))

    def _name_on_stack(self, _: Any) -> None:
        self._stack.append(self.find(*self._pop(2)))

    def _set_item(self, _: Any) -> None:
        items = self._pop(2)
        self._fill(self._stack[-1], items)

    def _set_items(self, _: Any) -> None:
        items = self._pop(None)
        self._fill(self._stack[-1], items)

    def _append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _append_all(self, _: Any) -> None:
        self._extend(self._pop(None))

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError("it appends to what is no list")
        target.extend(items)

    def _add_all(self, _: Any) -> None:
        items = self._pop(None)
        target = self._stack[-1]
        if type(target) is not set:
            raise ValueError("it adds to what is no set")
        target.update(item for item in items if self.check_key(item))

    def _reduce(self, _: Any) -> None:
        self._stack.append(self.call(*self._pop(2)))

    def _build(self, _: Any) -> None:
        (state,) = self._pop(1)
        self.set_state(self._stack[-1], state)

    def _refer(self, argument: Any) -> None:
        self._stack.append(self.refer(argument if argument is not None else self._pop(1)[0]))

    _METHODS: ClassVar[dict[str, Callable[["Instructions", Any], None]]] = {
        "MARK": _mark,
        "DUP": _repeat,
        "POP": _drop,
        "POP_MARK": _drop_marked,
        "MEMOIZE": _memoize,
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
        "GLOBAL": _name,
        "INST": _name,  # which makes an object: what stands for the name has none, and is refused as a value
        "STACK_GLOBAL": _name_on_stack,
        "SETITEM": _set_item,
        "SETITEMS": _set_items,
        "APPEND": _append,
        "APPENDS": _append_all,
        "ADDITEMS": _add_all,
        "REDUCE": _reduce,
        "BUILD": _build,
        "PERSID": _refer,
        "BINPERSID": _refer,
    }


def is_plain(key: Any) -> bool:
    """Returns whether a value can be hashed in no time, and so that few others have the same hash.

    Integers are hashed as they are, so longer ones could all have one hash.

    Example:
      >>> is_plain("fc.bias"), is_plain(3), is_plain(2**200), is_plain(((), ()))
      (True, True, False, False)
    """
    if type(key) is int:
        return -(2**63) <= key < 2**63
    return key is None or type(key) in (str, bytes, bool, float)
