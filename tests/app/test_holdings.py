"""What a server holds stands in its ledger, and what is too much is refused or let go."""

from __future__ import annotations

import pytest
import trio

from tests.app.web import serving
from triode.app.config.settings import Settings
from triode.app.service.holdings import settle
from triode.app.service.triode import Triode
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


async def test_above_the_limit_the_history_goes_first() -> None:
    triode = Triode(Settings(memory=MIB), {})
    before = triode.store.position
    while triode.store.history.bytes < MIB:
        triode.write_nowait(Set(("a",), "x" * 10_000))
    settle(triode.ledger)
    assert triode.ledger.held == 0
    assert triode.ledger.relieved == {"history": 1}
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
