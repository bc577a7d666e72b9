import importlib
import sys
from typing import NamedTuple

import pytest
from absl import flags, logging

from gradrev_commands import cli


class Ended(NamedTuple):
    """How a command ended: its exit status, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a command in this process, with flags of its own: another process would take seconds to start."""
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", None)
    monkeypatch.setattr(cli.app, "run", lambda main, flags_parser: main(flags_parser(sys.argv)))

    def call(command, *arguments):
        main = importlib.import_module(f"gradrev_commands.{command}").main
        monkeypatch.setattr(sys, "argv", [f"{command}.py", *map(str, arguments)])
        before, verbosity = set(flags.FLAGS), logging.get_verbosity()
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        finally:
            logging.set_verbosity(verbosity)
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
            flags.FLAGS.unparse_flags()
        out, err = capsys.readouterr()
        return Ended(status, out, err)

    return call
