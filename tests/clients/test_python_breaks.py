"""The Python client where the network or the server gives way: cuts, freezes, restarts, drain."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.behaviour.api import Api, eventually, open_api
from tests.behaviour.auth import ADMIN, signed
from tests.behaviour.server import Server
from tests.clients.doors import Connect, inside
from tests.clients.proxy import Proxy, open_proxy
from tests.clients.waiting import PATIENCE_S, settled, wait_state
from triode_client import MISSING, AsyncTriode, Changed, Lost, NotAllowed, Options, Unsent, op
from triode_client.link import Link

QUICK = Options(delay_s=0.02, max_delay_s=0.1, connect_s=2, idle_s=5)


def stepping(t: Any, filter: str) -> list[tuple[bool, object]]:
    """Notes what a view goes through from now on: (stale, value)."""
    seen: list[tuple[bool, object]] = []

    def begin(link: Link) -> None:
        topic = link._topics[filter]
        tell = topic._told

        def note() -> None:
            seen.append((topic.stale, topic.value))
            tell()

        seen.append((topic.stale, topic.value))
        setattr(topic, "_told", note)  # noqa: B010 # a type checker knows it as a method

    inside(t, begin)
    return seen


# ── views ───────────────────────────────────────────────────────────────────────────────────────


async def test_after_a_cut_only_what_was_missed_comes(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    await api.reset({"n": 0, "other": 0})
    async with connect(proxy.url, options=QUICK) as t, t.view(".n") as view:
        first = t.client_id
        with t.watch(".n") as watch:
            assert (await anext(watch)).kind == "snapshot"
            seen = stepping(t, ".n")
            proxy.refuses = True
            proxy.cut()
            await wait_state(t, "reconnecting")
            assert view.stale
            assert view.value == 0
            for number in (1, 2, 3):
                await api.put(".n", number)
            proxy.refuses = False
            await settled(view, 3)
            changes = [await anext(watch) for _ in range(3)]
        assert [(change.kind, change.value) for change in changes] == [
            ("update", 1), ("update", 2), ("update", 3),
        ]  # fmt: skip
        assert seen[0] == (False, 0)
        assert seen[-1] == (False, 3)
        # Never a value without what came before it, and none called fresh before all had come.
        assert [step for step in seen if not step[0]] == [(False, 0), (False, 3)]
        assert t.client_id not in (None, first)


async def test_a_cut_where_nothing_was_missed(connect: Connect, proxy: Proxy, api: Api) -> None:
    await api.reset({"n": 0})
    async with connect(proxy.url, options=QUICK) as t, t.view(".n") as view, t.view(".x"):
        proxy.cut()
        await wait_state(t, "reconnecting")
        await settled(view, 0)


async def test_a_position_that_is_too_old_brings_a_snapshot(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    await api.reset({"n": 0})
    async with connect(proxy.url, options=QUICK) as t, t.view(".n") as view:
        with t.watch(".n") as watch:
            await anext(watch)
            proxy.refuses = True
            proxy.cut()
            await wait_state(t, "reconnecting")
            for number in range(1, 100):  # the server keeps 60 changes
                await api.put(".n", number)
            proxy.refuses = False
            await settled(view, 99)
            change = await anext(watch)
            assert (change.kind, change.value) == ("snapshot", 99)


@pytest.mark.parametrize("after", [1, 60, 200, 333, 700])
async def test_a_cut_in_the_middle_of_an_event(
    connect: Connect, proxy: Proxy, api: Api, after: int
) -> None:
    await api.reset({"a": {str(n): 0 for n in range(20)}})
    async with connect(proxy.url, options=QUICK) as t, t.view(".a.*") as view:
        accepted = proxy.accepted
        proxy.cut_after = after
        # One change, many events; only the last of them carries the position.
        await api.merge(".a", {str(n): 1 for n in range(0, 20, 2)})
        await api.merge(".a", {"0": None, "x": [1], "3": {"y": 2}})
        expected = {item["path"]: item["value"] for item in await api.select(".a.*")}
        await settled(view, expected)
        assert proxy.accepted == accepted + 1


async def test_a_frozen_network_is_noticed_and_left(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    await api.reset({"n": 0})
    options = Options(delay_s=0.02, max_delay_s=0.1, connect_s=0.3, idle_s=0.2)
    async with connect(proxy.url, options=options) as t, t.view(".n") as view:
        await trio.sleep(0.6)  # pongs keep a silent connection
        assert proxy.accepted == 1
        proxy.freeze()
        began = trio.current_time()
        await wait_state(t, "reconnecting")
        assert trio.current_time() - began < 1.5
        await api.put(".n", 1)
        await trio.sleep(0.5)  # attempts run into their deadline
        assert t.state == "reconnecting"
        proxy.thaw()
        await settled(view, 1)


async def test_a_slow_network_is_only_slow(connect: Connect, proxy: Proxy, api: Api) -> None:
    await api.reset({"list": []})
    proxy.delay_s = 0.05
    async with connect(proxy.url, options=QUICK) as t, t.view(".list") as view:
        for number in range(20):
            await api.patch(".list", {"op": "add", "path": "/-", "value": number})
        await settled(view, list(range(20)))
        assert proxy.accepted == 1


async def test_a_gap_is_stale_until_it_is_healed(connect: Connect, proxy: Proxy, api: Api) -> None:
    await api.reset({"n": 0, "bulk": ""})
    filler = "x" * 200_000
    async with connect(proxy.url, options=QUICK) as t, t.view(".") as view:
        seen = stepping(t, ".")
        proxy.freeze()
        for number in range(1, 80):
            await api.merge(".", {"n": number, "bulk": filler + str(number)})
        proxy.thaw()
        await settled(view, {"n": 79, "bulk": filler + "79"})
        assert proxy.accepted == 1
        assert any(stale for stale, _ in seen), "no gap: the burst was too small"
    await api.reset({})


async def test_an_event_that_does_not_fit_is_answered_with_a_snapshot(
    connect: Connect, server: Server, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    await api.reset({"a": {"b": 1}})
    async with connect(f"http://127.0.0.1:{server.port}") as t, t.view(".a") as view:
        lost = {"type": "update", "filter": ".a", "path": ".a.lost.b", "value": 1}

        def take(link: Link) -> bool:
            link.take(lost)
            return link._topics[".a"].stale

        assert inside(t, take)
        await settled(view, {"b": 1})
    assert "does not fit" in caplog.text


# ── the server comes and goes ───────────────────────────────────────────────────────────────────


async def test_a_restarted_server_is_found_again_with_what_it_has_now(
    connect: Connect, mortal: Server
) -> None:
    async with open_proxy(mortal.port) as proxy, connect(proxy.url, options=QUICK) as t:
        await t.set(".", {"n": 1})
        async with t.view(".n") as view, t.room("chat") as room:
            await room.publish("say", "before", echo=True)
            assert (await anext(room)).missed == 0
            mortal.kill()
            await wait_state(t, "reconnecting")
            await trio.to_thread.run_sync(mortal.start)
            proxy.target = mortal.port
            await wait_state(t, "connected")
            async with open_api(mortal) as api:
                await api.reset({"n": 2})
            await settled(view, 2)
            await room.publish("say", "after", echo=True)
            message = await anext(room)
            assert (message.data, message.missed) == ("after", None)


async def test_what_was_said_in_rooms_meanwhile_comes_once_and_nothing_of_ours(
    connect: Connect, proxy: Proxy, server: Server
) -> None:
    async with (
        connect(proxy.url, options=QUICK) as t,
        connect(f"http://127.0.0.1:{server.port}") as other,
    ):
        async with t.room("a") as a, t.room("b") as b:
            await other.publish("say", 1, room="a")
            await other.publish("say", 1, room="b")  # a silent room would not be remembered
            await a.publish("say", "ours")
            assert [(await anext(a)).data, (await anext(b)).data] == [1, 1]
            proxy.refuses = True
            proxy.cut()
            await wait_state(t, "reconnecting")
            await other.publish("say", 2, room=["a", "b"])
            await other.publish("say", 3, room="b")
            proxy.refuses = False
            with trio.fail_after(PATIENCE_S):
                got = [await anext(a), await anext(b)]
            assert [(message.data, message.missed) for message in got] == [(2, 0), (3, 0)]


async def test_one_room_that_is_refused_costs_no_other(connect: Connect, guarded: Server) -> None:
    tokens = [signed({"rooms": ["a", "b"]}), signed({"rooms": ["b"]})]
    async with open_proxy(guarded.port) as proxy:
        async with connect(proxy.url, token=lambda: tokens.pop(0), options=QUICK) as t:
            async with t.room("a") as a, t.room("b") as b:

                def forget(link: Link) -> None:
                    link._token = None  # as after it was refused

                inside(t, forget)
                proxy.cut()
                with trio.fail_after(PATIENCE_S):
                    with pytest.raises(NotAllowed):
                        await anext(a)
                    await b.publish("say", 1, echo=True)
                    assert (await anext(b)).data == 1


async def test_a_draining_server_says_when_to_come_back(
    connect: Connect, mortal: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "triode_client")
    options = Options(delay_s=1, jitter=0)  # not ours is to be taken
    async with open_proxy(mortal.port) as proxy, connect(proxy.url, options=options) as t:
        await t.set(".", {"n": 1})
        async with t.view(".n") as view:
            await trio.to_thread.run_sync(mortal.stop)
            await wait_state(t, "reconnecting")
            await trio.to_thread.run_sync(mortal.start)
            proxy.target = mortal.port
            await settled(view, MISSING)
    told = re.search(r'1012 {"retry_ms":(\d+)}; connecting again in ([0-9.]+) s', caplog.text)
    assert told is not None, caplog.text
    assert float(told[2]) == pytest.approx(int(told[1]) / 1000, abs=0.1)


async def test_delays_grow_and_begin_anew_after_a_success(
    connect: Connect, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    options = Options(delay_s=0.1, jitter=0)
    async with connect(proxy.url, options=options) as t:
        for _ in range(2):
            proxy.refuses = True
            proxy.cut()
            await wait_state(t, "reconnecting")

            async def has_failed_twice(accepted: int = proxy.accepted) -> bool:
                return proxy.accepted >= accepted + 2

            await eventually(has_failed_twice)
            proxy.refuses = False
            await wait_state(t, "connected")
    delays = re.findall(r"connecting again in ([0-9.]+) s", caplog.text)
    assert delays == ["0.1", "0.2", "0.4"] * 2


async def asked(t: Any) -> None:
    """Wait until what was called has reached the client."""
    await wait_all_tasks_blocked()
    inside(t, lambda link: None)


# ── commands ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.not_sync("each command that waits has a thread")
async def test_what_is_written_offline_arrives_in_order_and_the_oldest_are_dropped(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    await api.reset({"log": []})
    dropped: list[int] = []

    async def append(t: AsyncTriode, number: int) -> None:
        try:
            await t.append(".log", number)
        except Unsent:
            dropped.append(number)

    options = Options(delay_s=0.02, max_delay_s=0.1)
    assert options.queue == 1000
    async with connect(proxy.url, options=options) as t:
        proxy.refuses = True
        proxy.cut()
        await wait_state(t, "reconnecting")
        async with trio.open_nursery() as nursery:
            for number in range(1005):
                nursery.start_soon(append, t, number)
                await asked(t)

            async def are_dropped() -> bool:
                # In any order: whom of those who hear of it at once Trio runs first is chance.
                return sorted(dropped) == [0, 1, 2, 3, 4]

            await eventually(are_dropped)
            proxy.refuses = False
        assert await t.get(".log") == list(range(5, 1005))


@pytest.mark.not_sync("threads have no order")
async def test_what_waits_is_sent_again_where_the_rate_is_low(
    connect: Connect, guarded: Server
) -> None:
    options = Options(delay_s=0.02, max_delay_s=0.1)
    async with open_proxy(guarded.port) as proxy:
        async with connect(proxy.url, token=ADMIN, options=options) as t:
            await t.set(".", {"log": []})
            proxy.refuses = True
            proxy.cut()
            await wait_state(t, "reconnecting")
            async with trio.open_nursery() as nursery:
                for number in range(40):  # 50 a second, 10 at once
                    nursery.start_soon(t.append, ".log", number)
                    await asked(t)
                proxy.refuses = False
            async with open_api(guarded, token=ADMIN) as admin:
                assert await admin.get(".log") == list(range(40))


async def test_a_write_cut_off_before_its_answer_is_applied_once(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    """The server has done it, and its answer is cut, wherever that is."""
    await api.reset({"n": 0, "list": []})
    async with connect(proxy.url, options=QUICK) as t:
        for number in range(10):
            proxy.cut_after = number % 3
            position = await t.increment(".n")
            assert await api.get(".n") == number + 1
            proxy.cut_after = 5
            two = op.append(".list", number)
            positions = await t.batch([two, two], atomic=bool(number % 2))
            assert len(positions) == 2
            assert position not in positions
        assert await api.get(".list") == [number // 2 for number in range(20)]
        assert proxy.accepted >= 20


async def test_a_condition_that_it_met_itself_is_no_reason_to_refuse_it(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    position = await api.reset({"n": 0})
    async with connect(proxy.url, options=QUICK) as t:
        proxy.cut_after = 0
        await t.set(".n", 1, if_=position)
        assert await t.transaction(".n", lambda n: n + 1) == 2
        with pytest.raises(Changed):
            await t.set(".n", 1, if_=position)


async def test_a_message_cut_off_before_its_answer_is_in_doubt(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    await api.reset({"n": 0})
    lost: list[BaseException] = []
    async with connect(proxy.url, options=QUICK) as t:

        async def publish() -> None:
            try:
                await t.publish("say", room="r")
            except Lost as exc:
                lost.append(exc)

        async with trio.open_nursery() as nursery:
            proxy.freeze()
            nursery.start_soon(publish)
            read: list[object] = []

            async def get() -> None:
                read.append(await t.get(".n"))

            nursery.start_soon(get)
            await trio.sleep(0.1)  # both are on their way
            proxy.cut()
            proxy.thaw()
        assert len(lost) == 1
        assert "may have been applied" in str(lost[0])
        assert read == [0]  # a read is asked again


@pytest.mark.not_sync("it gives up by itself")
async def test_a_write_that_is_given_up_offline_is_not_sent(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    await api.reset({"n": 0})
    async with connect(proxy.url, options=QUICK) as t:
        proxy.refuses = True
        proxy.cut()
        await wait_state(t, "reconnecting")
        with trio.move_on_after(0.05) as scope:
            await t.increment(".n")
        assert scope.cancelled_caught
        proxy.refuses = False
        assert await t.get(".n") == 0


@pytest.mark.not_sync("it gives up by itself")
async def test_a_view_begun_offline_begins_when_there_is_a_connection(
    connect: Connect, proxy: Proxy, api: Api
) -> None:
    await api.reset({"n": 0})
    async with connect(proxy.url, options=QUICK) as t:
        proxy.refuses = True
        proxy.cut()
        await wait_state(t, "reconnecting")
        with trio.move_on_after(0.05) as scope:
            async with t.view(".n"):
                pytest.fail("there is no state")
        assert scope.cancelled_caught
        assert inside(t, lambda link: list(link._topics)) == []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with trio.fail_after(PATIENCE_S):
                    async with t.view(".n") as view, t.room("chat"):
                        assert view.value == 0

            await trio.sleep(0.05)
            proxy.refuses = False


async def test_leaving_the_block_while_there_is_no_connection(
    connect: Connect, proxy: Proxy
) -> None:
    with trio.fail_after(PATIENCE_S):
        async with connect(proxy.url, options=Options(delay_s=60)) as t:
            proxy.refuses = True
            proxy.cut()
            await wait_state(t, "reconnecting")
