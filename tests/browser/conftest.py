"""A browser and servers for it. A page that logged an error nobody expected fails its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.behaviour.auth import ADMIN, DOCUMENT, GUARDED
from tests.behaviour.server import OPEN, Server, Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from .chromium import Log

PageFactory = Callable[..., "Page"]
ServerFactory = Callable[..., Server]


# Not for the whole session: Playwright's event loop counts as running in this thread as long as the
# browser lives, and other tests start one of their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each page has a context of its own."""
    from .chromium import launch

    with launch() as one:
        yield one


@pytest.fixture
def log() -> Log:
    """What the pages of this test log; see `Log.expect`."""
    from .chromium import Log

    return Log()


@pytest.fixture
def open_page(browser: Browser, log: Log) -> Iterator[PageFactory]:
    """Open an address in a new context; keywords are the context's (`color_scheme`, …)."""
    from .chromium import DESKTOP, PATIENCE_MS

    contexts = []

    def make(url: str, **options: Any) -> Page:
        context = browser.new_context(**(DESKTOP | options))
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        log.follow(page)
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not log.faults()


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFactory]:
    """A server of this test's own, rates off unless set; it must end in order."""
    servers: list[Server] = []

    def make(**settings: str | int | float) -> Server:
        server = start(tmp_path_factory, {**OPEN, **settings})
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`make demo`, with the limits that it has."""
    server = start(tmp_path_factory, {"demo": "true"})
    yield server
    server.stop()


@pytest.fixture(scope="package")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with nothing in its document, no rates, no tokens."""
    server = start(tmp_path_factory, OPEN)
    yield server
    server.stop()


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for tokens."""
    server = start(tmp_path_factory, {**OPEN, **GUARDED})
    with http(server, ADMIN) as client:
        client.post("/store", json=DOCUMENT).raise_for_status()
    yield server
    server.stop()


def start(folders: pytest.TempPathFactory, settings: Settings) -> Server:
    """A running server."""
    server = Server("native", settings, folders.mktemp("browser-server"))
    server.start()
    return server


def url_of(server: Server) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{server.port}"


def http(server: Server, token: str | None = None) -> httpx.Client:
    """Requests to it."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # Without TLS there is nothing to verify, and reading certificates takes longer than all else.
    return httpx.Client(base_url=url_of(server), headers=headers, timeout=10, verify=False)


def restart(server: Server) -> None:
    """Stop it in order and start it anew at the same address. Its document is gone."""
    server.stop()
    server.start(server.port)
