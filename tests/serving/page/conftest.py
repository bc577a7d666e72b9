"""The page in a real browser, over the server with a retriever of random features: ``make test-page``."""

import os
import pathlib
import shutil
import threading

import pytest
from playwright.sync_api import sync_playwright

from gradrev_jax.serving.web.app import create_app
from gradrev_jax.serving.web.server import address as address_of
from gradrev_jax.serving.web.server import listen, make_server
from tests.serving.page.browser import visiting
from tests.serving.web.fake import FakeRetriever, fake_words

MUST_RUN = bool(os.environ.get("PAGE_MUST_RUN"))  # where a missing browser is an error
ARGUMENTS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


def missing(what):
    """Skips, or fails where the tests must run."""
    if MUST_RUN:
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def browser():
    """The system's chromium, never one that playwright fetches."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        missing("chromium")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=[*ARGUMENTS, *(["--no-sandbox"] if is_root else [])]
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, which ``make test-page`` fetches."""
    path = pathlib.Path(os.environ.get("AXE", ""))
    if not path.is_file():
        missing("axe-core")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def serve():
    """Serves a retriever until the tests are over; returns the address."""
    running = []

    def start(shop, words=fake_words, gallery="test garments"):
        taken, ready = listen("127.0.0.1", 0), threading.Event()
        server = make_server(create_app(shop, words=words, gallery=gallery), ready=ready.set)
        server.config.loop = "asyncio"  # uvloop does not share a process with playwright's loop
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        running.append((server, thread))
        assert ready.wait(20)
        return address_of(taken)

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def shop():
    """A gallery of 300 garments."""
    return FakeRetriever(300)


@pytest.fixture(scope="session")
def address(serve, shop):
    """The address of the shop."""
    return serve(shop)


@pytest.fixture
def visit(browser, address):
    """The page on a large screen."""
    with visiting(browser, address) as opened:
        yield opened
