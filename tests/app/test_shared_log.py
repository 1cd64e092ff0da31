"""Two Triodes on one log: one order, the same document, and answers where a write was made."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect as subscribe
from tests.app.test_journal import SHOP, running_on, state
from tests.log.shared import SharedMemory, View
from triode.app.log.log import Opened
from triode.app.service import boot
from triode.app.service.issuing import issue, revoke
from triode.app.service.sharing import boot_shared
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.limits.grant import Grant
from triode.limits.principal import OWNER
from triode.store.change import Position
from triode.store.operation import Append, Increment, Merge, Set
from triode.store.outcomes import Key


def everything(triode: Triode) -> tuple[Any, ...]:
    return *state(triode), triode.store.checksum, triode.store.outcomes.rows()


async def settled(*triodes: Triode) -> None:
    """All have carried out all that is in the log."""
    await trio.testing.wait_all_tasks_blocked(0.002)
    assert len({triode.store.position for triode in triodes}) == 1


async def test_what_one_writes_the_other_has() -> None:
    memory = SharedMemory()
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        lane = FakeLane()
        subscribe(two, lane, ".")
        first = await one.write(Set(("a",), 1))
        second = await two.write(Increment(("a",)))
        third = await one.write(Append(("list",), "x" * 100_000))
        await settled(one, two)
        assert (first.seq + 1, second.seq + 1) == (second.seq, third.seq)
        assert one.store.document.root == {"a": 2, "list": ["x" * 100_000]}
        assert everything(one) == everything(two)
        # Who watches there hears of it, and in the same order.
        told = [lane.taken.index(str(each).encode()) for each in (first, second, third)]
        assert told == sorted(told)


async def test_each_hears_how_its_own_writes_ended() -> None:
    """Others' come between; they are decided in the order of the log, not of the replies."""
    memory = SharedMemory()
    views = View(memory), View(memory)
    async with running_on(views[0], {"n": 0}) as one, running_on(views[1]) as two:
        await settled(one, two)
        views[1].hold()
        position = one.store.position
        await one.write(Set(("n",), 1))
        answers: list[object] = []

        async def write(op: Any, principal: Any = OWNER) -> None:
            try:
                answers.append((await two.write(op, principal)).seq)
            except Refusal as refusal:
                answers.append(refusal.status)

        async with trio.open_nursery() as nursery:
            for op, by in (
                (Set(("n",), 5, if_position=position), OWNER),  # it is not `position` any more
                (Set(("a", "b"), 1), SHOP),
                (Increment(("n",)), OWNER),
            ):
                nursery.start_soon(write, op, by)
                await trio.testing.wait_all_tasks_blocked()
            await one.write(Merge((), {"m": 1}))
            assert answers == []  # what was before is not known there
            views[1].let_go()
        assert set(answers) == {412, 404, position.seq + 3}  # the 404 needed no entry
        await settled(one, two)
        assert two.store.document.root == {"n": 2, "m": 1}
        assert everything(one) == everything(two)


async def test_nothing_is_refused_by_a_document_that_may_be_old() -> None:
    memory = SharedMemory()
    views = View(memory), View(memory)
    async with running_on(views[0], {"a": {}}) as one, running_on(views[1]) as two:
        await settled(one, two)
        views[1].hold()
        await one.write(Set(("a", "b"), [1]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.write, Append(("a", "b"), 2))
            await trio.testing.wait_all_tasks_blocked()
            views[1].let_go()
        assert two.store.document.root == {"a": {"b": [1, 2]}}


async def test_a_key_is_known_to_all() -> None:
    memory = SharedMemory()
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        first = await one.write(Increment(("n",)), key=Key("k", "asked"))
        assert await two.write(Increment(("n",)), key=Key("k", "asked")) == first
        await settled(one, two)
        assert one.store.document.root == {"n": 1}


async def test_tokens_are_known_to_all() -> None:
    memory = SharedMemory()
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        issued = await issue(one, Grant(read=("*",)), ttl_s=None, label="")
        await settled(one, two)
        assert two.tokens.validate(issued.secret, two.clock.unix_s()) is not None
        await revoke(two, issued.info.id)
        await settled(one, two)
        assert one.tokens.validate(issued.secret, one.clock.unix_s()) is None


async def test_who_comes_later_has_all(autojump_clock: trio.testing.MockClock) -> None:
    memory = SharedMemory()
    async with running_on(View(memory), {"n": 0}) as one:
        for _ in range(5):
            await one.write(Increment(("n",)))
        async with running_on(View(memory)) as two:
            assert everything(one) == everything(two)
            # Who was connected there goes on here.
            assert two.store.can_resume(Position("e0", 2))
            await two.write(Increment(("n",)))
            await one.write(Increment(("n",)))
            await settled(one, two)
            assert everything(one) == everything(two)
            assert two.store.document.root == {"n": 7}


class Impatient(View):
    """Nobody may ask for news again and again without taking them."""

    asked = 0

    async def news(self) -> None:
        self.asked += 1
        assert self.asked < 100
        await super().news()


async def test_news_that_come_while_a_write_is_carried_out_wait() -> None:
    """They were looked for without end, and nobody else had a turn."""
    memory = SharedMemory()
    view = Impatient(memory)
    async with running_on(View(memory)) as one, running_on(view) as two:
        await settled(one, two)
        flusher = two.hub.flusher
        room, waits = flusher.room, trio.Event()

        async def no_room() -> None:
            await waits.wait()

        flusher.room = no_room  # type: ignore[method-assign] # it has much to do
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.write, Set(("b",), 1))
            await trio.testing.wait_all_tasks_blocked()
            await one.write(Set(("a",), 1))
            await trio.testing.wait_all_tasks_blocked()
            waits.set()
            flusher.room = room  # type: ignore[method-assign]
        await settled(one, two)
        assert two.store.document.root == {"a": 1, "b": 1}


@pytest.mark.parametrize("bytes_", [10, 40_000])
async def test_a_long_write_of_another_one_holds_nobody_up(bytes_: int) -> None:
    """Its value is decoded in turns; and it comes out as it was."""
    memory = SharedMemory()
    value = {str(n): ["ä", n, None, 1.5] for n in range(bytes_ // 20 + 1)}
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        await one.write(Set(("v",), value))
        await settled(one, two)
        assert two.store.document.root == {"v": value}
        assert everything(one) == everything(two)


async def test_an_id_of_a_client_names_its_server() -> None:
    """It is one client's on all of them."""
    memory = SharedMemory()
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        for triode in (one, two):
            assert triode.journal is not None
            assert triode.journal.shared is not None
            client = subscribe(triode, FakeLane(), ".")
            assert client.id.startswith(f"c_{triode.journal.shared.node}_")
        assert not one.hub.clients.keys() & two.hub.clients.keys()


async def test_beginning_from_a_shared_log_looks_for_no_garbage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collection of everything visits the document that is being read, again and again."""
    seen: list[bool] = []

    async def noted(triode: Triode, opened: Opened) -> None:
        seen.append(gc.isenabled())
        await boot_shared(triode, opened)

    monkeypatch.setattr(boot, "boot_shared", noted)
    memory = SharedMemory()
    async with running_on(View(memory), {"a": 1}), running_on(View(memory)):
        assert gc.isenabled()
    assert seen == [False, False]
