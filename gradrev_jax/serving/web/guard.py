"""Stands before the API: which hosts and sites it answers, and what browsers may do with its answers."""

import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gradrev_jax.errors import ConfigError
from gradrev_jax.serving.web.answers import to_json
from gradrev_jax.serving.web.bodies import header
from gradrev_jax.serving.web.refusals import Refused, quote

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
MISDIRECTED = 421
HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")  # as browsers send it, without a port


def local_hosts(address: str, given: str = "") -> tuple[str, ...] | None:
    """Returns the hosts that a server answers for, by the address that it listens on.

    Args:
      address: the address as the system gives it, not as it was asked for: ``127.1`` and ``Localhost`` are
        ``127.0.0.1``. One that other machines reach has names that are not known here.
      given: the host that was asked for.

    Returns:
      The names of this machine for itself, the address, and the host that was asked for; None if others can
      reach it: all.

    Example:
      >>> local_hosts("127.0.0.2", "Shop"), local_hosts("0.0.0.0")
      (('localhost', '127.0.0.1', '[::1]', '127.0.0.2', 'shop'), None)
    """
    found = ipaddress.ip_address(address)
    if not (getattr(found, "ipv4_mapped", None) or found).is_loopback:
        return None
    own = [f"[{host}]" if ":" in host else host for host in (address, given.lower()) if host]
    return tuple(dict.fromkeys((*LOCAL_NAMES, *own)))


def check_host_names(names: Sequence[str]) -> None:
    """Raises unless names are those of hosts alone, which no request would match otherwise.

    Args:
      names: the names, in any case.

    Raises:
      ConfigError: one has a scheme, a port or a path.

    Example:
      >>> check_host_names(["shop.example", "[::1]"])
      >>> check_host_names(["https://shop.example"])
      Traceback (most recent call last):
      gradrev_jax.errors.ConfigError: 'https://shop.example' is no host's name alone; give shop.example
    """
    for name in names:
        if not HOST_NAME.fullmatch(name):
            host = urlsplit(name if "//" in name else f"//{name}").hostname or ""
            example = host if HOST_NAME.fullmatch(host) else "one as shop.example"
            raise ConfigError(f"{name!r} is no host's name alone; give {example}", arguments=("allow_host",))


class Guard:
    """Refuses what other sites have a browser send, and adds the security headers to every answer.

    A site may point its own name at this machine (DNS rebinding): requests then have that name as their host,
    which a server for this machine alone does not answer. A site may also have a browser post a form: such a
    request names the site as its origin.

    Args:
      app: the ASGI application.
      hosts: the hosts that are answered, in lower case and without ports; None: all.
    """

    def __init__(self, app: Any, hosts: tuple[str, ...] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        """Answers a request."""

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        if scope["type"] == "http" and (refused := self._refusal(scope)):
            await _send_refusal(refused, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: MutableMapping[str, Any]) -> Refused | None:
        host = header(scope["headers"], b"host").decode("latin-1").lower()
        if self._hosts is not None and _without_port(host) not in self._hosts:
            return Refused(
                f"this server does not answer for the host {quote(host)}; use {self._hosts[0]}, or start it "
                "with --allow_host=NAME",
                MISDIRECTED,
            )
        origin = header(scope["headers"], b"origin").decode("latin-1").lower()
        if scope["method"] not in ("GET", "HEAD") and origin:
            _, _, site = origin.partition("://")
            if site != host:
                return Refused(f"this server takes nothing from pages of {quote(origin)}", 403)
        return None


def _without_port(host: str) -> str:
    """Returns the name of a host; an address of IPv6 keeps its brackets."""
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


async def _send_refusal(refused: Refused, send: Send) -> None:
    body = to_json({"error": str(refused)})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
