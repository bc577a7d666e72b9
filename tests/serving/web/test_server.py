"""A real server on a free port: clients that are slow, vanish, or crowd."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from gradrev_jax.errors import ConfigError, UserError
from gradrev_jax.serving.web.app import create_app
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.server import address, listen, make_server
from tests.serving.web.fake import FakeItem, FakeRetriever

QUICK = Limits(header_seconds=0.3, body_seconds=0.3, write_seconds=0.3, idle_seconds=1.0, connections=8)


@contextlib.contextmanager
def running(shop=None, limits=QUICK, sent_at_once=None):
    app = create_app(shop or FakeRetriever(50), hosts=("127.0.0.1",), limits=limits)
    ready, taken = threading.Event(), listen("127.0.0.1", 0)
    if sent_at_once:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sent_at_once)
    server = make_server(app, limits=limits, ready=ready.set)
    thread = threading.Thread(target=server.run, args=([taken],))
    thread.start()
    assert ready.wait(10)
    server.port = taken.getsockname()[1]
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def server():
    with running() as server:
        yield server


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def ask(server, method="GET", path="/api/attributes", body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def seconds_until_closed(connection):
    """Reads until the server ends the connection; returns what it sent and the time."""
    started, received = time.perf_counter(), b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received, time.perf_counter() - started


def until(condition):
    deadline = time.perf_counter() + 5
    while not condition():
        assert time.perf_counter() < deadline
        time.sleep(0.01)


def test_it_answers_many_requests_on_one_connection(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    with contextlib.closing(connection):
        for row in range(5):
            body = json.dumps({"item": row, "k": 3})
            connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200
            assert json.loads(answer.read())["items"][0]["item"] == row


@pytest.mark.parametrize("start", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0"])
def test_a_client_that_never_says_what_it_wants_is_let_go(server, start):
    with connect(server) as connection:
        connection.sendall(start)
        received, elapsed = seconds_until_closed(connection)
    assert received == b""
    assert 0.1 < elapsed < 2


def test_a_client_that_says_it_byte_by_byte_is_let_go(server):
    started = time.perf_counter()
    with connect(server) as connection, contextlib.suppress(OSError):
        for byte in b"GET /api/attributes HTTP/1.1\r\nX-Slow: " + b"a" * 200:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    assert time.perf_counter() < started + 3


def test_a_client_that_starts_a_second_request_and_stops_is_let_go(server):
    with connect(server) as connection:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /")
        received, elapsed = seconds_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200")
    assert elapsed < 2


def test_a_client_that_keeps_a_request_long_is_not_mistaken_for_it():
    with running(FakeRetriever(50, delay=0.6)) as server:
        status, _, _ = ask(server, "POST", "/api/search", '{"item": 3}', {"Content-Type": "application/json"})
    assert status == 200


def test_a_client_that_does_not_send_its_body_is_told_so(server):
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        _, elapsed = seconds_until_closed(connection)
    assert elapsed < 2


def test_a_client_that_sends_without_end_is_told_so_and_let_go(server):
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        started = time.perf_counter()
        with contextlib.suppress(OSError):
            while time.perf_counter() < started + 5:
                connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
                time.sleep(0.002)
        assert time.perf_counter() < started + 3


def test_a_client_that_does_not_read_its_answer_is_let_go(server):
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /api/items?limit=200 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        with contextlib.suppress(OSError):
            for _ in range(3000):
                connection.sendall(request)
        until(lambda: not server.server_state.connections)


@pytest.mark.long
@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize("count", [100, 200])
def test_a_client_that_does_not_read_its_only_answer_is_let_go(header, count):
    """Of less than what the server buffers, or more."""
    with (
        running(FakeRetriever(200), sent_at_once=4096) as server,
        contextlib.closing(socket.socket()) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /api/items?limit=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n" % (count, header))
        until(lambda: server.server_state.total_requests)
        until(lambda: not server.server_state.connections)


def test_clients_that_vanish_cost_nothing():
    shop = FakeRetriever(50, delay=0.1)
    searched = []
    search, limits = shop.item, Limits(threads=1, connections=50)
    shop.item = lambda row: searched.append(row) or search(row)
    body = b'{"item": 3}'
    request = (
        b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    with running(shop, limits) as server:
        for _ in range(10):
            with connect(server) as connection:
                connection.sendall(request)
        assert ask(server)[0] == 200  # after those before it were accepted
        until(lambda: not server.server_state.tasks and not server.server_state.connections)
        assert 0 < searched.count(3) < 5  # those that waited were dropped


def test_too_many_connections_are_told_so(server):
    until(lambda: not server.server_state.connections)
    with contextlib.ExitStack() as stack:
        for _ in range(QUICK.connections):
            stack.enter_context(connect(server))
        status, body, headers = ask(server)
        assert status == 503
        assert "too many connections" in json.loads(body)["error"]
        assert headers["Retry-After"] == "1"
    until(lambda: ask(server)[0] == 200)


def test_an_overloaded_server_says_so_and_recovers():
    with running(FakeRetriever(50, delay=0.1), Limits(threads=1, waiting=1)) as server:
        answers = []

        def search():
            answers.append(
                ask(server, "POST", "/api/search", '{"item": 3}', {"Content-Type": "application/json"})
            )

        threads = [threading.Thread(target=search) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 503}
        refused = next(answer for answer in answers if answer[0] == 503)
        assert "overloaded" in json.loads(refused[1])["error"]
        assert refused[2]["Retry-After"] == "1"
        search()
        assert answers[-1][0] == 200


@pytest.mark.parametrize(
    "request_line",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"HELLO\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # without a host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_400_in_json(server, request_line):
    with connect(server) as connection:
        connection.sendall(request_line)
        received, _ = seconds_until_closed(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-security-policy: default-src 'none'" in head
    assert "HTTP/1.1" in json.loads(body)["error"]


def test_a_head_without_end_is_not_kept(server):
    with connect(server) as connection:
        started, sent = time.perf_counter(), 0
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
            while time.perf_counter() < started + 5:
                connection.sendall(b"a" * 4096)
                sent += 4096
                time.sleep(0.002)
    assert time.perf_counter() < started + 3
    assert sent < 5_000_000


def test_a_refused_upload_reaches_a_client_that_waits_for_leave(server):
    """curl asks before it sends much: Expect: 100-continue."""
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
            b"Content-Type: multipart/form-data; boundary=a\r\nContent-Length: 99999999\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_fault_is_answered_and_logged_and_the_server_lives_on(monkeypatch, caplog):
    """Whatever the code raises: a bug, or a machine that has no memory or disk left."""
    errors = [ZeroDivisionError, MemoryError, RecursionError, OSError, UserError]
    search = ("POST", "/api/search", b'{"item": 3}', {"Content-Type": "application/json"})
    with running() as server:
        for error in errors:
            with monkeypatch.context() as patch:

                def fail(*arguments, error=error, **options):
                    raise error("/secret/path")

                patch.setattr(FakeItem, "search", fail)
                status, body, headers = ask(server, *search)
            expected = 503 if error is UserError else 500
            assert (status, headers["Content-Type"]) == (expected, "application/json")
            assert list(json.loads(body)) == ["error"]
            assert b"Traceback" not in body
            assert (b"secret" in body) == (error is UserError)
            until(lambda error=error: f"{error.__name__}: /secret" in caplog.text or error is UserError)
            assert ask(server, *search)[0] == 200


def test_a_port_that_is_taken_is_said_with_what_to_do():
    with listen("127.0.0.1", 0) as taken:  # before anything is answered, while a gallery is encoded
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on port {port} of 127.0.0.1: .*another port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", "8.8.8.8", "a" * 300])
def test_a_host_that_is_none_of_this_machine_is_said(host):
    with pytest.raises(ConfigError) as error:
        listen(host, 0)
    assert "host" in error.value.arguments


def test_the_address_is_one_that_a_browser_on_this_machine_can_open():
    with listen("0.0.0.0", 0) as taken:
        assert address(taken) == f"http://127.0.0.1:{taken.getsockname()[1]}/"


@pytest.mark.long
def test_an_interrupt_ends_it_at_once_whatever_clients_do():
    script = (
        "from tests.serving.web.fake import FakeRetriever\n"
        "from gradrev_jax.serving.web.app import create_app\n"
        "from gradrev_jax.serving.web.server import listen, serve\n"
        "app = create_app(FakeRetriever(50, delay=0.2))\n"
        "serve(app, listen('127.0.0.1', 0), ready=lambda url: print(url, flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        port = int(process.stdout.readline().rsplit(":", 1)[1].strip("/\n"))
        with (
            socket.create_connection(("127.0.0.1", port)) as idle,
            socket.create_connection(("127.0.0.1", port)) as busy,
        ):
            busy.sendall(
                b"POST /api/search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: 11\r\n\r\n{"
            )
            idle.sendall(b"GET / HTTP")
            time.sleep(0.05)
            started = time.perf_counter()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert time.perf_counter() - started < 5  # the body would be waited for for ten seconds
        assert "Traceback" not in process.stderr.read()
