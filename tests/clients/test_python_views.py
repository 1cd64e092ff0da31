"""The Python client's views and watches, with a server in peace."""

from __future__ import annotations

import gc

import pytest
import trio

from tests.behaviour.api import Api, eventually
from tests.behaviour.server import Server
from tests.clients.doors import Connect, ask, inside
from tests.clients.waiting import PATIENCE_S, settled, take
from triode_client import (
    MISSING,
    Change,
    NotFound,
    Options,
    Refused,
)

QUICK = Options(delay_s=0.02, max_delay_s=0.2, connect_s=5, idle_s=5)


# ── views ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_view_of_a_path_is_the_value_there(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"a": {"b": [1, None]}})
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        async with t.view(".a.b") as b, t.view(".a.b[1]") as null, t.view(".x") as missing:
            assert b.value == [1, None]
            assert b.items == {".a.b": [1, None]}
            assert null.value is None
            assert missing.value is MISSING
            assert not b.stale
            assert b.position is not None
            before = b.value
            await api.put(".a.b[0]", 2)
            await settled(b, [2, None])
            assert before == [1, None]
            await api.put(".x", {"new": True})
            await settled(missing, {"new": True})
            await api.delete(".a")
            await settled(b, MISSING)


async def test_a_view_of_several_places_is_a_mapping(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"users": [{"name": "Ann", "role": "x"}, {"name": "Bob", "role": "y"}]})
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        async with t.view(".users[role=x].name") as x, t.view("$.users[-1:]") as last:
            assert x.value == {".users[0].name": "Ann"}
            assert last.value == {".users[1]": {"name": "Bob", "role": "y"}}
            await api.put(".users[1].role", "x")
            await settled(x, {".users[0].name": "Ann", ".users[1].name": "Bob"})
            await api.put(".users", [])
            await settled(x, {})
            await settled(last, {})


async def test_two_holders_of_a_filter_share_one_subscription(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"a": 1})
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        async with t.view(".a") as first:
            async with t.view(".a") as second:
                await api.put(".a", 2)
                await settled(first, 2)
                await settled(second, 2)
            await api.put(".a", 3)
            await settled(first, 3)
            assert inside(t, lambda link: list(link._topics)) == [".a"]
            with pytest.raises(ValueError, match="policy"):
                await anext(t.watch(".a", policy="latest"))
        assert inside(t, lambda link: list(link._topics)) == []
        async with t.view(".a") as again:
            assert again.value == 3


@pytest.mark.not_sync("nobody cancels it")
async def test_a_wait_that_was_cancelled_misses_nothing(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"a": 1})
    async with connect(f"http://127.0.0.1:{server.port}") as t, t.view(".a") as view:
        with trio.move_on_after(0.01):
            await view.wait_changed()
        await t.set(".a", 2)
        with trio.fail_after(PATIENCE_S):
            await view.wait_changed()
        assert view.value == 2


@pytest.mark.parametrize("filter", [".a[", "$.a[?", "nope\x00"])
async def test_a_malformed_filter_is_refused_with_its_column(
    connect: Connect, server: Server, filter: str
) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        with pytest.raises(Refused) as caught:
            async with t.view(filter):
                pass
        assert caught.value.status == 400
        assert caught.value.problem["column"] > 0
        with pytest.raises(Refused):
            await anext(t.watch(filter))
        assert t.state == "connected"


# ── watches ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_watch_gives_the_state_and_then_each_change(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"a": {"n": 0}})
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        with t.watch(".a") as watch:
            [first] = await take(watch, 1)
            positions = [await t.increment(".a.n") for _ in range(3)]
            await t.delete(".a")
            changes = await take(watch, 4)
    assert (first.kind, first.path, first.value) == ("snapshot", None, {"n": 0})
    assert [change.value for change in changes] == [{"n": 1}, {"n": 2}, {"n": 3}, MISSING]
    assert [change.kind for change in changes] == ["update"] * 3 + ["delete"]
    assert [change.path for change in changes] == [".a.n"] * 3 + [".a"]
    assert [change.position for change in changes[:3]] == positions
    assert not any(change.skipped for change in changes)


async def test_a_slow_program_goes_on_with_the_newest_and_is_told(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"n": 0})
    async with connect(f"http://127.0.0.1:{server.port}") as t, t.view(".n") as view:
        slow, quick = t.watch(".n", buffer=4), t.watch(".n", buffer=100)
        await take(slow, 1)
        await take(quick, 1)
        for _ in range(23):
            await t.increment(".n")
        await settled(view, 23)
        got: list[Change] = []
        while not got or got[-1].value != 23:
            got += await take(slow, 1)
        assert len(got) + sum(change.skipped for change in got) == 23
        assert got[0].skipped > 0
        assert len(got) <= 4
        assert [change.value for change in await take(quick, 23)] == list(range(1, 24))


async def test_a_watch_that_nobody_holds_any_more_ends(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"n": 0})
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        async for _ in t.watch(".n"):
            break
        gc.collect()

        async def is_gone() -> bool:
            return bool(inside(t, lambda link: not link._topics))

        await eventually(is_gone)
        # The server has been told, too: what comes next does not find it subscribed.
        with pytest.raises(NotFound):
            await ask(t, {"type": "unsubscribe", "filter": ".n"})


async def test_a_watch_joins_late_and_is_closed_early(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"n": 7})
    async with connect(f"http://127.0.0.1:{server.port}") as t, t.view(".n"):
        watch = t.watch(".n")
        [change] = await take(watch, 1)
        assert (change.kind, change.value) == ("snapshot", 7)
        watch.close()
        watch.close()
        assert [change async for change in watch] == []
