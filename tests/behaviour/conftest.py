"""Servers for the behaviour tests: one per lane for most of them, special ones made on demand and
shared.

`lane` is a session-wide parameter, so pytest runs all tests of one lane, stops its servers, and
goes on with the other. Every server is stopped by `Server.stop`, which is itself a test: a clean
exit and no traceback in the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from .auth import ADMIN, DOCUMENT, GUARDED
from .clients import Api, Fence, open_api
from .server import LANES, OPEN, Lane, Server, Settings
from .small_document import DOCUMENT as SMALL


class ServerFactory:
    """Running servers by their settings; the same settings share one."""

    def __init__(self, lane: Lane, folders: pytest.TempPathFactory) -> None:
        self._lane = lane
        self._folders = folders
        self.servers: dict[str, Server] = {}

    def __call__(self, **settings: str | int | float) -> Server:
        """A running server with the settings given; rates are off unless set."""
        chosen: Settings = {**OPEN, **settings}
        name = repr(sorted(chosen.items()))
        if name not in self.servers:
            server = Server(self._lane, chosen, self._folders.mktemp(f"{self._lane}-server"))
            server.start()
            self.servers[name] = server
        return self.servers[name]

    def stop(self) -> None:
        """Stop all; raises with the faults of all."""
        faults = []
        for server in self.servers.values():
            server.terminate()
        for server in self.servers.values():
            try:
                server.stop()
            except AssertionError as fault:
                faults.append(f"{server.settings}: {fault}")
        assert not faults, "\n\n".join(faults)


@pytest.fixture(scope="session", params=LANES)
def lane(request: pytest.FixtureRequest) -> Lane:
    """The way of serving: every behaviour test runs on both."""
    chosen: Lane = request.param
    return chosen


@pytest.fixture(scope="session")
def make_server(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFactory]:
    """Servers of the lane, stopped at its end."""
    factory = ServerFactory(lane, tmp_path_factory)
    yield factory
    factory.stop()


@pytest.fixture(scope="session")
def server(make_server: ServerFactory) -> Server:
    """The server of the lane: no rates, no authentication, defaults."""
    return make_server()


@pytest.fixture(autouse=True)
def lane_can(lane: Lane, request: pytest.FixtureRequest) -> None:
    """Skip what is marked `native` on the other lane, with the reason that the mark gives."""
    mark = request.node.get_closest_marker("native")
    if mark is not None and lane != "native":
        pytest.skip(mark.kwargs["reason"])


@pytest.fixture(autouse=True)
def servers_live_on(
    make_server: ServerFactory, server: Server, request: pytest.FixtureRequest
) -> Iterator[None]:
    """No input ends a server. One that did end is started anew, so that a fault hides no others."""
    yield
    names = set(request.fixturenames) & {"guarded", "rated", "small", "hasty"}
    used = [server, *(request.getfixturevalue(name) for name in names)]
    dead = [one for one in used if not one.is_answering()]
    for one in dead:
        one.restart()
    if dead:
        pytest.fail(f"a server ended during this test; its log: {dead[0].home}")


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """HTTP to the server of the lane."""
    async with open_api(server) as one:
        yield one


@pytest.fixture(scope="session")
def guarded(make_server: ServerFactory) -> Server:
    """A server that asks for tokens: an admin's, its own, and JWTs of HS256."""
    return make_server(**GUARDED)


@pytest.fixture
async def admin(guarded: Server) -> AsyncIterator[Api]:
    """HTTP to the guarded server with the admin's token, the document set anew."""
    async with open_api(guarded, token=ADMIN) as one:
        await one.reset(DOCUMENT)
        yield one


@pytest.fixture
def fence(api: Api) -> Fence:
    """See `Fence`; for watchers of the server of the lane."""
    return Fence(api)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Remember how far the server's log was, so that a failure can show what belongs to it."""
    one = getattr(item, "funcargs", {}).get("server")
    offset = one.log_size() if isinstance(one, Server) else 0
    try:
        return (yield)
    finally:
        if isinstance(one, Server) and (log := one.log(offset)):
            item.add_report_section("call", f"{one.lane} server log", log)


@pytest.fixture
async def document(api: Api) -> str:
    """The small document is there; its position."""
    return await api.reset(SMALL)
