"""Calls an ASGI application without a network, byte by byte as a test likes."""

import asyncio
import json
from typing import NamedTuple

BOUNDARY = b"a-boundary"


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The message of an answer that is an error, and nothing else."""
        assert self.status >= 400
        assert self.headers["content-type"] == "application/json"
        assert list(self.json) == ["error"]
        assert "Traceback" not in self.json["error"]
        return self.json["error"]


class Client:
    def __init__(self, app, host="localhost:8000", check=lambda method, path, answer: None):
        self.app, self.host, self.check = app, host, check

    def request(self, method, path, body=b"", headers=(), chunks=None):
        """Sends a request, and waits for the answer; `chunks` in place of a body are sent one by one."""
        return asyncio.run(self.call(method, path, body, headers, chunks))

    async def call(self, method, path, body=b"", headers=(), chunks=None):
        path, _, query = path.partition("?")
        fields = {"host": self.host, "content-length": str(len(body)), **dict(headers)}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in fields.items()
                if value is not None
            ],
        }
        parts = list(chunks) if chunks is not None else [body]
        sent, answered = [], asyncio.Event()

        async def receive():
            if not parts:
                await answered.wait()
                return {"type": "http.disconnect"}
            part = parts.pop(0)
            if part is None:  # the client is silent from here on
                await answered.wait()
            if isinstance(part, Exception):
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message):
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                answered.set()

        await self.app(scope, receive, send)
        start = sent[0]
        answer = Answer(
            start["status"],
            {name.decode().lower(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )
        self.check(method, path, answer)
        return answer

    def get(self, path, **headers):
        return self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path, value, **headers):
        """Posts JSON: a value, or the bytes of a body."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.request("POST", path, body, headers)

    def upload(self, content, name="photo"):
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        return self.request("POST", "/api/photos", form((name, content)), {"content-type": kind})


def form(*fields):
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\n\r\n%s\r\n'
        % (BOUNDARY, name.encode(), content)
        for name, content in fields
    ]
    return b"".join([*parts, b"--%s--\r\n" % BOUNDARY])
