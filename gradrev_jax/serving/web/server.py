"""Runs the application on a port, until it is interrupted."""

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from gradrev_jax.errors import ConfigError
from gradrev_jax.serving.web.connections import timed_connections
from gradrev_jax.serving.web.limits import Limits

SECONDS_TO_END = 1  # for answers that are on their way


class Server(uvicorn.Server):
    """A server of uvicorn that says when it answers.

    Args:
      config: the settings of uvicorn.
      ready: a function that is called once, when connections are answered.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to answer."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends; requests that are cut off by it are no fault to be logged."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Takes a port, on which nothing is answered yet.

    Args:
      host: the name or address to listen on.
      port: the port; 0: any that is free.

    Raises:
      ConfigError: the port is taken or not allowed, or the host is not one of this machine's.

    Example:
      >>> with listen("127.0.0.1", 0) as taken:
      ...     address(taken).startswith("http://127.0.0.1:")
      True
    """
    arguments = ("host", "port")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{host!r} is no host: {error}", arguments=("host",)) from error
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(place)
        taken.listen()  # bound alone, it would let another server take the same port
    except OSError as error:
        taken.close()
        raise ConfigError(
            f"cannot listen on port {port} of {host}: {error.strerror or error}; choose another port, or 0 "
            "for any that is free",
            arguments=arguments,
        ) from error
    return taken


def address(taken: socket.socket) -> str:
    """Returns the address of the page for a browser on this machine.

    Args:
      taken: the socket of the server.
    """
    host, port = taken.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def make_server(
    app: Any, *, limits: Limits | None = None, ready: Callable[[], None] = lambda: None
) -> Server:
    """Returns a server that runs when its ``run`` is called with sockets.

    Args:
      app: the ASGI application.
      limits: the deadlines of connections; None: the defaults.
      ready: a function that is called when it answers.
    """
    limits = limits or Limits()
    config = uvicorn.Config(
        app,
        loop="asyncio",  # with or without uvloop in the environment: what the tests know
        http=timed_connections(limits),
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=round(limits.idle_seconds),
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    return Server(config, ready)


def serve(
    app: Any,
    taken: socket.socket,
    *,
    ready: Callable[[str], None] = lambda _: None,
    limits: Limits | None = None,
) -> None:
    """Answers on a socket until Ctrl-C or SIGTERM.

    Args:
      app: the ASGI application.
      taken: the socket, see ``listen``.
      ready: a function that is called with the address of the page when it is answered.
      limits: the deadlines of connections; None: the defaults.
    """
    server = make_server(app, limits=limits, ready=lambda: ready(address(taken)))
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        server.run(sockets=[taken])
