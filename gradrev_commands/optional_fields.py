"""Lets the command line take the value of an optional config field away: --config.train.clip_norm=None."""

from typing import Any

from absl import flags
from ml_collections import config_flags


class _OptionalParser(flags.ArgumentParser):
    """A parser of values that reads ``None`` as no value, which optional fields may have.

    Args:
      parser: the parser of all other values.
    """

    def __init__(self, parser: flags.ArgumentParser) -> None:
        super().__init__()
        self._parser, self.syntactic_help = parser, parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        """Returns the value; None for ``None``."""
        return None if argument == "None" else self._parser.parse(argument)

    def flag_type(self) -> str:
        """Returns the type for --help."""
        return self._parser.flag_type()


def register() -> None:
    """Makes config flags of numbers and words read ``None`` as no value; other fields are checked later."""
    parsers: dict[type, flags.ArgumentParser[Any]] = {
        int: flags.IntegerParser(),
        float: flags.FloatParser(),
        str: flags.ArgumentParser(),
    }
    for kind, parser in parsers.items():
        config_flags.register_flag_parser_for_type(kind, _OptionalParser(parser))
