"""Servers for the tests of the clients, started as their users do, in both ways of serving."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.behaviour.api import Api, open_api
from tests.behaviour.auth import GUARDED
from tests.behaviour.server import LANES, OPEN, Lane, Server
from tests.clients.doors import DOORS, Connect, Door, open_door
from tests.clients.proxy import Proxy, open_proxy


@pytest.fixture(scope="session", params=LANES)
def lane(request: pytest.FixtureRequest) -> Lane:
    """The way of serving."""
    chosen: Lane = request.param
    return chosen


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    """The client's door. A test with the mark `not_sync` is about tasks."""
    chosen: Door = request.param
    if chosen == "sync" and (mark := request.node.get_closest_marker("not_sync")):
        pytest.skip(f"the client without async has no such thing: {mark.args[0]}")
    return chosen


@pytest.fixture
def connect(door: Door) -> Connect:
    """`connect` of the door."""
    return open_door(door)


@pytest.fixture(scope="session")
def server(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the lane: no rates, no tokens; small queues and a short history, so that tests
    see gaps, and positions that cannot be resumed.
    """
    small = {**OPEN, "queue_items": 40, "history_items": 60}
    one = Server(lane, small, tmp_path_factory.mktemp(f"{lane}-server"))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for tokens and has tight rates."""
    tight = {**GUARDED, "http_rate": 0, "ws_rate": "50/10"}
    one = Server("native", tight, tmp_path_factory.mktemp("guarded"))
    one.start()
    yield one
    one.stop()


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the test may end and start again; on another port each time."""
    one = Server("native", {**OPEN, "drain": "2s"}, tmp_path_factory.mktemp("mortal"))
    one.start()
    yield one
    one.stop()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """HTTP to the server of the lane, with an empty document."""
    async with open_api(server) as one:
        await one.reset({})
        yield one


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """A proxy in front of the server of the lane."""
    async with open_proxy(server.port) as one:
        yield one
