"""Reads the bodies of requests: limited in bytes and in time, in memory alone."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gradrev_jax.serving.web.fields import parse_json
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.refusals import Refused, quote
from gradrev_jax.serving.web.workers import CLIENT_IS_GONE, Receive

Headers = Sequence[tuple[bytes, bytes]]
FORM_OVERHEAD = 16 * 1024  # what a form needs besides its file: boundaries, names and types
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what a client sends is no news
MOST_PARTS = 8  # of a form; the parser limits their headers


def header(headers: Headers, name: bytes) -> bytes:
    """Returns the value of a header, empty if there is none.

    Args:
      headers: the names, in lower case, and values.
      name: the name, in lower case.

    Example:
      >>> header([(b"host", b"localhost:8000")], b"host")
      b'localhost:8000'
    """
    return next((value for key, value in headers if key == name), b"")


async def read_json(headers: Headers, receive: Receive, limits: Limits) -> Any:
    """Returns the value of a JSON body.

    A page of another site can have a browser send a form here, but no JSON: so JSON must say that it is.

    Raises:
      Refused: another content type, too long, too slow, or no JSON.
    """
    kind = header(headers, b"content-type").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Refused(
            f"the content type is {quote(kind.decode('latin-1'))}; send JSON as application/json", 415
        )
    return parse_json(await read_body(headers, receive, limits.json_bytes, limits.body_seconds))


async def read_body(headers: Headers, receive: Receive, most: int, seconds: float) -> bytes:
    """Returns a whole body.

    Args:
      headers: the headers of the request.
      receive: ASGI's function that returns the next part of the body.
      most: the number of bytes that a body may have.
      seconds: the time that it may take.

    Raises:
      Refused: it is longer (413) or slower (408), or the client has gone.
    """
    announced = header(headers, b"content-length")
    if announced.isdigit() and (len(announced) > 18 or int(announced) > most):
        raise _too_long(most)
    try:
        async with asyncio.timeout(seconds):
            return await _receive_all(receive, most)
    except TimeoutError:
        raise Refused(f"the body was not here after {seconds:g} seconds; send it again", 408) from None


async def _receive_all(receive: Receive, most: int) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        chunks = [message.get("body", b"")]  # nearly always the whole body
        if len(chunks[0]) > most:
            raise _too_long(most)
        return chunks[0]
    chunks, total = list[bytes](), 0
    while True:
        if message["type"] == "http.disconnect":
            raise Refused("the client has gone", CLIENT_IS_GONE)
        chunks.append(message.get("body", b""))
        total += len(chunks[-1])
        if total > most:
            raise _too_long(most)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_long(most: int) -> Refused:
    return Refused(f"the body is too long; send at most {most:,} bytes", 413)


def check_form(headers: Headers) -> bytes:
    """Returns the boundary of a multipart form, which its content type names.

    Raises:
      Refused: another content type, or no boundary.

    Example:
      >>> check_form([(b"content-type", b"multipart/form-data; boundary=xyz")])
      b'xyz'
    """
    kind, options = parse_options_header(header(headers, b"content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise Refused("send the photograph as multipart/form-data with a boundary, in the field `photo`", 415)
    return boundary


def form_file(body: bytes, boundary: bytes, field: str) -> bytes:
    r"""Returns the content of the one field of a multipart form.

    Args:
      body: the form.
      boundary: what is between its parts.
      field: the name of the field.

    Raises:
      Refused: no form, or a form with other fields, or with this field twice or not at all.

    Example:
      >>> part = b'--xyz\r\nContent-Disposition: form-data; name="photo"\r\n\r\nJPEG\r\n--xyz--\r\n'
      >>> form_file(part, b"xyz", "photo")
      b'JPEG'
    """
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Refused("the form cannot be read; send it as multipart/form-data") from None
    names = [name for name, _ in form.parts]
    if names != [field] or not form.is_complete:
        got = f"fields {quote(', '.join(names))}" if names else "none"
        raise Refused(f"the form must have one field, `{field}`, with a file; it has {got}")
    return bytes(form.parts[0][1])


class _Form:
    """Collects the parts of a form as its parser finds them."""

    def __init__(self) -> None:
        self.parts = list[tuple[str, bytearray]]()
        self.is_complete = False
        self._headers = dict[bytes, bytearray]()
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> Any:
        """Returns the functions that the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._name_part,
            "on_part_data": lambda data, start, end: self.parts[-1][1].extend(memoryview(data)[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= MOST_PARTS:
            raise Refused(f"the form has more than {MOST_PARTS} fields")
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = self._value
        self._name, self._value = bytearray(), bytearray()

    def _name_part(self) -> None:
        _, options = parse_options_header(bytes(self._headers.get(b"content-disposition", b"")))
        self.parts.append((options.get(b"name", b"").decode("utf-8", "replace"), bytearray()))

    def _end(self) -> None:
        self.is_complete = True
