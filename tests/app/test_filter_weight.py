"""What all filters take is counted: about, and back to nothing."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import connect, running
from tests.app.web import serving
from triode.app.service.holdings import clear_caches
from triode.app.service.session import Session
from triode.app.wire import end_reasons

SHAPES = [
    ".k{n}",
    ".k{n}.a.b.c.d",
    ".a[x={n}][y=2].z",
    ".k{n}" + "n" * 2000,
    "..k{n}",
    ".a.*[y={n}]",
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape)[:12])
async def test_the_index_says_what_its_filters_take(autojump_clock: object, shape: str) -> None:
    async with running() as triode:
        connect(triode, FakeLane(), ".warm", "..warm")
        index = triode.store.index
        before, taken = index.bytes, 0
        clear_caches()
        gc.collect()
        tracemalloc.start()
        try:
            clients = []
            for number in range(5):
                texts = [shape.format(n=number * 100 + each) for each in range(100)]
                clients.append(connect(triode, FakeLane(), *texts))
                await trio.testing.wait_all_tasks_blocked()
                lane = clients[-1].lane
                assert isinstance(lane, FakeLane)
                lane.taken = bytearray()
            triode.hub.shelf.clear()
            clear_caches()
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert 0.75 * taken < index.bytes - before < 1.25 * taken
        triode.ledger.settle()
        assert triode.ledger.accounts["filters"].held == index.bytes
        for client in clients:
            triode.hub.end(client, end_reasons.CLIENT_LOST, "silently")
        assert index.bytes == before


async def test_new_filters_are_refused_when_all_take_too_much(autojump_clock: object) -> None:
    """Others go on, and those that are watched already may be watched by more."""
    async with serving({"a": 1}, memory=1024 * 1024) as web:
        triode, number = web.triode, 0
        bound = triode.ledger.accounts["filters"].bound
        while triode.store.index.bytes <= bound:
            number += 1
            connect(triode, FakeLane(), f".k{number}")
        answer = await web.ask("GET", "/events?filter=.k1,.new")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        lane = FakeLane()
        session = Session(triode, connect(triode, lane))
        for text in (".new", ".k1"):
            await session.receive(b'{"type":"subscribe","filter":"%b"}' % text.encode())
        await trio.testing.wait_all_tasks_blocked()
        answers = [m for m in lane.messages() if m["type"] in ("error", "ok")]
        assert [each.get("status") for each in answers] == [503, None]
        assert triode.ledger.accounts["filters"].refused == 2
