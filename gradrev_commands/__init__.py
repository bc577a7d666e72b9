"""The command lines: each defines flags and calls one function of gradrev_jax."""

import gc
import sys
from types import TracebackType


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Shows an error that nothing has caught; Ctrl-C while a command is still being imported in one line."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Importing and tracing make objects by the million, nearly all of which stay: at Python's own threshold, they
# would be looked through again and again.
gc.set_threshold(100_000, 20, 20)
if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _show
