"""Ends a command as SIGTERM and SIGINT (Ctrl-C) ask for: at once, or after work that would be lost."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from gradrev_commands.endings import GOES_ON

HANDLED = (signal.SIGINT, signal.SIGTERM)
REPEATED = 0.5  # seconds in which a terminal and a launcher may both send the first signal
GRACE = 5.0  # seconds that a command has to take its temporary files away, whatever it is busy with


class Terminated(BaseException):
    """The request to end that SIGTERM is; like a KeyboardInterrupt, no ``except Exception`` swallows it."""


class _Handler:
    """The signals of this process, while a command runs.

    Python calls handlers between two instructions of the main thread, which may be compiling, or waiting for
    a device, for minutes. A thread therefore reads what the system writes of each signal, and ends the
    process where the main thread does not.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.is_deferring = False
        self._first: float | None = None
        self._timer: threading.Timer | None = None
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._former_writer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        former = {number: signal.getsignal(number) for number in HANDLED}
        # A shell's background commands ignore SIGINT.
        self._former: dict[int, Any] = {n: each for n, each in former.items() if each is not signal.SIG_IGN}
        for number in self._former:
            signal.signal(number, self._handle)
        threading.Thread(target=self._watch, args=[reader], name="signals", daemon=True).start()

    def close(self) -> None:
        """Gives the signals back."""
        for number, former in self._former.items():
            signal.signal(number, former)
        signal.set_wakeup_fd(self._former_writer)
        os.close(self._writer)  # which ends the thread
        if self._timer is not None:
            self._timer.cancel()

    def error(self) -> BaseException:
        """Returns the exception that ends the main thread."""
        return Terminated() if self.number == signal.SIGTERM else KeyboardInterrupt()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            return  # whether this is a second one, the thread decides
        self.number = number
        if not self.is_deferring:
            raise self.error()
        name = signal.Signals(number).name
        # Not by print: the signal may have interrupted it.
        os.write(2, f"\n{name}: saving, then ending; once more ends at once\n".encode())

    def _watch(self, reader: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as told:
            while number := told.read(1):
                if signal.getsignal(number[0]) == self._handle:  # a server has handlers of its own
                    self._count(number[0])

    def _count(self, number: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            if not self.is_deferring:
                self._timer = threading.Timer(GRACE, os._exit, [128 + number])
                self._timer.daemon = True
                self._timer.start()
        elif now - self._first > REPEATED:
            os._exit(128 + number)


_handler: _Handler | None = None


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Ends the command at the first signal during the block, with a line and with the status of the signal.

    The block is left as by an exception, so that what it writes is removed. ``deferred`` delays this. A
    second signal, or a block that is not left in seconds, ends the process without any of it. The status is
    130 after SIGINT and 143 after SIGTERM. In a thread other than the main thread, which gets no signals, it
    does nothing.
    """
    global _handler
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _handler = _Handler()
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if not requested():
            raise  # by the code itself
        print(GOES_ON, file=sys.stderr)
        with contextlib.suppress(OSError):  # whoever reads the output may have been ended, too
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status())  # without waiting for threads that read, compile or search
    finally:
        _handler.close()
        _handler = None


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Keeps the first signal from ending the block, which looks at ``requested`` and ends by itself.

    A signal that the block has not ended by takes effect at its end.
    """
    handler = _handler
    if handler is None:
        yield
        return
    handler.is_deferring = True
    try:
        yield
    finally:
        handler.is_deferring = False
    if handler.number is not None:
        raise handler.error()


def requested() -> bool:
    """Returns whether a signal has asked to end."""
    return _handler is not None and _handler.number is not None


def status() -> int:
    """Returns the exit status of a command that was asked to end: 130 by SIGINT, otherwise 143.

    One of several processes of a run may end because another got the signal.

    Example:
      >>> status()
      143
    """
    number = _handler.number if _handler is not None else None
    return 128 + (number or signal.SIGTERM)
