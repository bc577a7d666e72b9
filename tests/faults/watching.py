"""Records what a reader does beyond reading its files: programs, sockets, pickles, and files elsewhere."""

import contextlib
import os
import pathlib
import site
import sys
import sysconfig
import tempfile
import types
from collections.abc import Iterator
from typing import Any

EXECUTIONS = {
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen"),
    *("pty.spawn", "os.startfile", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "webbrowser.open"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "http.client.connect"),
    *("ftplib.connect", "smtplib.connect", "sqlite3.connect", "code.__new__", "function.__new__"),
}
# The calls of exec and eval in these modules make classes of named tuples and the like, of no input.
MAKERS = {"collections", "dataclasses", "enum", "typing", "jaxtyping"}
CHANGES = {
    **dict.fromkeys(
        ("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), 1
    ),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink", "shutil.copyfile", "shutil.move"), 2),
    **dict.fromkeys(("shutil.rmtree", "os.mkfifo", "os.mknod"), 1),
}
LISTS = {"os.listdir", "os.scandir", "glob.glob"}
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class Watch:
    """Records what a process does, by an audit hook; one in a process, because hooks stay.

    Args:
      allowed: the folders that may be read and written.
    """

    def __init__(self, *allowed: pathlib.Path) -> None:
        self._allowed = tuple(os.path.realpath(path) for path in allowed)
        installed = {
            *(str(REPOSITORY), sys.prefix, sys.base_prefix, *sys.path[1:], *site.getsitepackages()),
            *(sysconfig.get_path("stdlib"), "/usr/lib", "/lib", "/usr/share/zoneinfo", "/etc/localtime"),
            *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys", "/dev/null", "/dev/urandom"),
        }
        self._installed = tuple(os.path.realpath(path) for path in installed if path and path != "/dev/null")
        self._top_names = _importable_names()
        self._on = self._busy = False
        self.found: list[str] = []
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Records what the block does, in ``found``."""
        self.found, self._on = [], True
        try:
            yield
        finally:
            self._on = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or self._busy:
            return
        self._busy = True
        try:
            if (deed := self._judge(event, arguments)) is not None:
                self.found.append(f"{event}: {deed[:300]}")
        finally:
            self._busy = False

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        """Returns what an event does that no reader may do; None: it may."""
        if event in EXECUTIONS:
            return None if self._by_import(event) else repr(arguments)
        if event == "exec":
            return self._judge_code(arguments[0])
        if event == "import":
            top = str(arguments[0]).split(".")[0]
            return None if top in self._top_names else repr(arguments[0])
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            return self._judge_path(path, bool(writes))
        if event in LISTS:
            return self._judge_path(arguments[0], False)
        if event in CHANGES:
            deeds = (self._judge_path(path, True) for path in arguments[: CHANGES[event]])
            return next((deed for deed in deeds if deed), None)
        return None

    def _judge_path(self, path: Any, writes: bool) -> str | None:
        if isinstance(path, int) or path is None:
            return None
        text = os.fsdecode(path)
        with contextlib.suppress(OSError, ValueError):
            real = os.path.realpath(text)
            if _lies_in(real, self._allowed) or text == os.devnull:
                return None
            if not writes and _lies_in(real, self._installed):
                return None
        return f"{'writes' if writes else 'reads'} {text!r}"

    def _judge_code(self, code: Any) -> str | None:
        """Judges the code that exec or eval is about to run: that of installed files may, being imported."""
        if isinstance(code, types.CodeType) and _lies_in(os.path.realpath(code.co_filename), self._installed):
            return None
        caller = sys._getframe(3)
        if caller.f_globals.get("__name__", "").split(".")[0] in MAKERS:
            return None
        return f"{getattr(code, 'co_filename', code)!r} from {caller.f_globals.get('__name__')}"

    def _by_import(self, event: str) -> bool:
        """Returns whether an event belongs to the import of a module, which loads code and libraries."""
        if event not in ("marshal.loads", "ctypes.dlopen", "code.__new__", "function.__new__"):
            return False
        frame = sys._getframe(3)
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False


def _lies_in(real: str, folders: tuple[str, ...]) -> bool:
    return any(real == folder or real.startswith(folder.rstrip("/") + "/") for folder in folders)


def _importable_names() -> set[str]:
    """Returns the top names of all modules that are installed."""
    names = {
        *sys.stdlib_module_names,
        *sys.builtin_module_names,
        *(name.split(".")[0] for name in sys.modules),
    }
    for folder in sys.path:
        with contextlib.suppress(OSError):
            names |= {entry.split(".")[0] for entry in os.listdir(folder or ".")}
    return names


def use_temporary_folder(folder: pathlib.Path) -> None:
    """Makes all temporary files of the process appear in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = str(folder)
