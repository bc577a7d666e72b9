"""Connections that end when their client is too slow, or has gone without a word."""

import asyncio
import http

from uvicorn.protocols.http.h11_impl import H11Protocol

from gradrev_jax.serving.web.answers import to_json
from gradrev_jax.serving.web.guard import SECURITY_HEADERS
from gradrev_jax.serving.web.limits import Limits


class TimedConnection(H11Protocol):
    """uvicorn's connection with deadlines, and with JSON in place of its own messages.

    uvicorn waits without end for the head of a request, and for a client that does not read its answer.
    """

    limits = Limits()
    _head: asyncio.TimerHandle | None = None
    _read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request, or refuses one connection too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.write(plain_answer(503, "too many connections are open; try again in a second"))
            transport.close()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Reads a part of a request; the head is waited for until the request has begun."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._head)
            self._head = None
        elif self._head is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, error: Exception | None) -> None:
        """Forgets the deadlines."""
        _cancel(self._head)
        _cancel(self._read)
        super().connection_lost(error)

    def pause_writing(self) -> None:
        """Begins to wait for a client to read."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Goes on, because the client has read."""
        _cancel(self._read)
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Goes on to the next request; a connection that closes does so once all that is written is read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()

    def timeout_keep_alive_handler(self) -> None:
        """Ends an idle connection, even if the client has not read its last answer."""
        self.transport.abort()

    def send_400_response(self, message: str) -> None:
        """Refuses what is no HTTP."""
        self.transport.write(plain_answer(400, "this is no request of HTTP/1.1"))
        self.transport.close()

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.limits.header_seconds, self.transport.abort)

    def _await_reader(self) -> None:
        _cancel(self._read)
        self._read = self.loop.call_later(self.limits.write_seconds, self.transport.abort)


def timed_connections(limits: Limits) -> type[TimedConnection]:
    """Returns the class of connections with other limits.

    Args:
      limits: the deadlines, and the number of connections.

    Example:
      >>> timed_connections(Limits(connections=8)).limits.connections
      8
    """
    return type("TimedConnection", (TimedConnection,), {"limits": limits})


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def plain_answer(status: int, message: str) -> bytes:
    r"""Returns a whole answer, for what does not reach the application; the connection ends with it.

    Args:
      status: its status.
      message: what its JSON says.

    Example:
      >>> plain_answer(400, "no").splitlines()[0]
      b'HTTP/1.1 400 Bad Request'
    """
    body = to_json({"error": message})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *([(b"retry-after", b"1")] if status == 503 else []),
        *SECURITY_HEADERS,
    ]
    head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n".encode()
    return head + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body
