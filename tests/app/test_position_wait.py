"""A read that names a position waits for it; and what a shared log refuses needs no entry."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.app.test_journal import running_on
from tests.app.test_shared_log import settled
from tests.log.shared import SharedMemory, View
from triode.app.config.settings import Settings
from triode.app.service.execute import filter_of
from triode.app.service.position_wait import reach, reach_if_any
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import check_position
from triode.limits.principal import OWNER
from triode.store.change import Position
from triode.store.operation import Increment, Set


async def test_it_waits_until_it_is_there() -> None:
    memory = SharedMemory()
    views = View(memory), View(memory)
    async with running_on(views[0]) as one, running_on(views[1]) as two:
        await settled(one, two)
        views[1].hold()
        position = await one.write(Set(("a",), 1))
        seen: list[object] = []

        async def read() -> None:
            await filter_of(two, OWNER, {"filter": ".", "at": str(position)})
            seen.append(two.store.document.root)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(reach_if_any, two, position)
            await trio.testing.wait_all_tasks_blocked()
            assert seen == []
            views[1].let_go()
        assert seen == [{"a": 1}]


async def test_it_does_not_wait_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    memory = SharedMemory()
    views = View(memory), View(memory)
    async with running_on(views[0]) as one, running_on(views[1]) as two:
        await settled(one, two)
        before = two.store.position
        views[1].hold()
        position = await one.write(Set(("a",), 1))
        began = trio.current_time()
        with pytest.raises(Refusal) as refused:
            await reach(two, position)
        assert trio.current_time() - began == pytest.approx(two.settings.position_wait_s)
        body = refused.value.body()
        assert (body["status"], body["title"], body["position"]) == (503, "Behind", str(before))
        assert body["retry_after"] == int(refused.value.headers["Retry-After"])
        # A stream that cannot go on from there begins with a snapshot.
        await reach_if_any(two, position)
        assert two.journal is not None
        assert two.journal.end is not None
        assert (two.journal.end.waits, two.journal.end.waits_in_vain) == (2, 2)
        views[1].let_go()


async def test_a_position_of_another_log_is_none_at_once() -> None:
    memory = SharedMemory()
    async with running_on(View(memory)) as shared:
        for triode in (shared, Triode(Settings())):
            before = trio.current_time()
            for strange in (Position("other", 1), Position(triode.store.epoch, 10**6)):
                with pytest.raises(Refusal) as refused:
                    await reach(triode, strange)
                assert (refused.value.status, refused.value.title) == (412, "No such position")
            assert trio.current_time() - before < triode.settings.position_wait_s
            await reach(triode, triode.store.position)
            await reach(triode, None)


@pytest.mark.parametrize("at", ["", "e", "e:-1", 5, ["e:1"]])
def test_one_that_cannot_be_read(at: object) -> None:
    with pytest.raises(Refusal, match="must be a position"):
        check_position(at, "at")


async def test_a_refusal_needs_no_entry() -> None:
    memory = SharedMemory()
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        await settled(one, two)
        last = memory._last
        for triode in (one, two):
            with pytest.raises(Refusal, match="is not there"):
                await triode.write(Set(("a", "b"), 1))
        assert memory._last == last


async def test_a_refusal_counts_on_what_was_written_before() -> None:
    """Its own writer's writes too, which are not decided yet."""
    memory = SharedMemory()
    views = View(memory), View(memory)
    async with running_on(views[0]) as one, running_on(views[1]) as two:
        await settled(one, two)
        views[1].hold()
        assert two.journal is not None
        first = await two.journal.submit(Set(("a",), {}), OWNER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.write, Set(("a", "b"), 1))
            await trio.testing.wait_all_tasks_blocked()
            views[1].let_go()
        await first.answer()
        await settled(one, two)
        assert one.store.document.root == {"a": {"b": 1}}


async def test_with_much_under_way_refusals_are_logged() -> None:
    """All the same, they are right."""
    memory = SharedMemory()
    async with running_on(View(memory), {"n": 0}) as one:
        assert one.journal is not None
        writes = [await one.journal.submit(Increment(("n",)), OWNER) for _ in range(40)]
        with pytest.raises(Refusal, match="is not there"):
            await one.write(Set(("a", "b"), 1))
        for write in writes:
            await write.answer()
        assert one.store.document.root == {"n": 40}
