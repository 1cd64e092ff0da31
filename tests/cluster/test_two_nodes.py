"""Two Triodes on one server: one document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.cluster.server import Server
from tests.cluster.waiting import until
from triode.app.config.settings import Settings
from triode.app.log.valkey import ValkeyLog
from triode.app.service import running
from triode.app.service.triode import Triode
from triode.store.operation import Increment, Set


@asynccontextmanager
async def node(server: Server, root: Any = None, **options: Any) -> AsyncIterator[Triode]:
    """A Triode on the log of a server."""
    options = {"http_rate": None, "ws_rate": None} | options
    triode = Triode(Settings(**options), root, log=ValkeyLog(server.address))
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run, triode)
        yield triode
        nursery.cancel_scope.cancel()


async def equal(*triodes: Triode) -> None:
    """Wait until all are at the same position; then they have the same document."""
    await until(lambda: len({triode.store.position for triode in triodes}) == 1)
    assert len({str(triode.store.checksum) for triode in triodes}) == 1


async def test_what_one_writes_the_other_has(server: Server) -> None:
    async with node(server, {"n": 0}) as one, node(server) as two:
        for _ in range(5):
            await one.write(Increment(("n",)))
            await two.write(Increment(("n",)))
        await equal(one, two)
        assert two.store.document.root == {"n": 10}


async def test_it_is_there_afterwards(server: Server) -> None:
    async with node(server) as one:
        await one.write(Set(("a",), 1))
        before = one.store.position, one.store.document.root
    async with node(server) as two:
        assert (two.store.position, two.store.document.root) == before
