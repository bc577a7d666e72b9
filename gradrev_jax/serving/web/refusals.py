"""What a request is refused with: a status, and one sentence for the person who sent it."""

from collections.abc import Mapping

from gradrev_jax.errors import UserError

MOST_CHARACTERS = 80  # of a client's text that a message repeats


class Refused(UserError):  # noqa: N818 - as its users say it
    """A request that is not answered as asked; the message says what is wrong and what to do.

    Attributes:
      status: the status of the answer, 4xx or 503.
      headers: further headers of the answer.
    """

    def __init__(self, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def quote(text: object) -> str:
    """Returns a client's value as a message repeats it: shortened, with escapes for what is not printable.

    Args:
      text: any value that JSON can hold.

    Example:
      >>> quote("reed"), quote("x" * 1000)[-5:], quote(None)
      ("'reed'", 'xx...', 'null')
    """
    if text is None or isinstance(text, bool):
        return {None: "null", True: "true", False: "false"}[text]
    shown = repr(text[: 2 * MOST_CHARACTERS] if isinstance(text, str) else text)
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}..."
