"""What a server holds stands in its ledger, and what is too much is refused or let go."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import connect, running
from tests.app.web import serving
from triode.app.config.settings import Settings
from triode.app.service.holdings import settle
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.limits.ledger import Overdrawn
from triode.store.operation import Set

MIB = 1024 * 1024


async def test_a_body_too_many_is_503_and_nothing_is_left_in_the_book() -> None:
    async with serving({}) as web:
        bodies = web.triode.ledger.accounts["bodies"]
        with bodies.hold() as hold:
            hold.take(bodies.bound)
            answer = await web.ask("PUT", "/store?path=.a", 1)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await web.ask("PUT", "/store?path=.a", 1)).status == 200
        assert bodies.held == 0
        assert bodies.refused == 1


async def test_above_the_limit_the_caches_go_first_and_then_the_history() -> None:
    triode = Triode(Settings(memory=MIB), {})
    before = triode.store.position
    while triode.store.history.bytes < MIB:
        triode.write_nowait(Set(("a",), "x" * 10_000))
    settle(triode.ledger)
    held = triode.store.footprint + triode.store.touched.bytes
    assert triode.ledger.held == held < 20_000 + triode.store.touched.bytes
    assert triode.ledger.relieved == {"caches": 1, "shelf": 1, "history": 1}
    assert not triode.store.can_resume(before)
    # The document is whole, and the next change can be resumed from.
    triode.write_nowait(Set(("a",), 1))
    assert triode.store.document.root == {"a": 1}
    await trio.lowlevel.checkpoint()


async def test_new_bodies_are_refused_while_all_together_is_too_much() -> None:
    triode = Triode(Settings(memory=MIB), {})
    triode.ledger.account("something", read=lambda: MIB)
    triode.ledger.settle()
    with pytest.raises(Overdrawn) as refused:
        triode.ledger.accounts["bodies"].take(1)
    assert refused.value.account == "memory"
    await trio.lowlevel.checkpoint()


async def test_whoever_has_the_longest_queue_is_ended_and_nobody_else() -> None:
    async with running(Settings(memory=MIB, history_items=1), {"a": "", "b": ""}) as triode:
        healthy, short, long = FakeLane(), FakeLane(0), FakeLane(0)
        clients = [connect(triode, lane, ".a") for lane in (healthy, short)]
        clients.append(connect(triode, long, ".a", ".b"))
        # The second of `.a` waits for both, and is held once.
        for number, path in enumerate("aba"):
            await triode.write(Set((path,), str(number) * 20_000))
            await trio.testing.wait_all_tasks_blocked()
        settle(triode.ledger)
        queues = triode.ledger.accounts["queues"]
        assert 60_000 < queues.held < 61_000
        # One byte more than is allowed.
        triode.ledger.limit = triode.store.footprint + queues.held - 1
        settle(triode.ledger)
        assert [client.end for client in clients] == [None, None, end_reasons.MEMORY]
        assert long.aborted
        assert triode.ledger.relieved["queues"] == 1
        assert not triode.ledger.excess


async def test_a_document_that_would_take_too_much_memory_is_507_and_as_it_was() -> None:
    async with serving({}, memory=MIB) as web:
        many = [{"x": number} for number in range(4_000)]
        assert (await web.ask("PUT", "/store?path=.a", many)).status == 507
        assert web.triode.store.document.root == {}
        assert (await web.ask("PUT", "/store?path=.a", many[:2_000])).status == 200
        assert (await web.ask("PUT", "/store?path=.b", many[:2_000])).status == 507
        assert (await web.ask("PUT", "/store?path=.a", many[:1_000])).status == 200
