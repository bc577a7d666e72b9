"""What a person can put right: errors whose message is all they need to see, without a traceback."""

PLATFORMS = "gradrev_jax trains and evaluates on Linux and macOS; on Windows, run it under WSL"


class UserError(Exception):
    """Something given from outside cannot be used; the message says what, where, and what to do."""


class DataError(UserError, ValueError):
    """The user's data: a file, a row or a field of it."""


class ConfigError(UserError, ValueError):
    """A config field, or several: each is named with what it may be."""


class WorkdirError(UserError):
    """The folder of a run: started with another config, or not a run at all."""


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read."""


class WeightsError(UserError, ValueError):
    """A file of pretrained weights that cannot be read, or does not fit the model."""


def first_line(error: BaseException) -> str:
    r"""What a library's error says first, or its kind where it says nothing.

    Example:
      >>> first_line(OSError("\n disk full \n at 0x1")), first_line(KeyError())
      (' disk full ', 'KeyError')
    """
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
