"""The Python client's commands and rooms, with a server in peace."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.behaviour.api import Api
from tests.behaviour.server import Server
from tests.clients.doors import Connect
from tests.clients.waiting import PATIENCE_S, settled
from triode_client import (
    MISSING,
    BatchRefused,
    Changed,
    NotFound,
    Options,
    Refused,
    op,
)

QUICK = Options(delay_s=0.02, max_delay_s=0.2, connect_s=5, idle_s=5)


# ── writes ──────────────────────────────────────────────────────────────────────────────────────


async def test_every_write(connect: Connect, server: Server, api: Api) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        first = await t.set(".", {"a": {"x": 1, "y": 2}, "list": [1], "n": 1, "gone": 0})
        await t.merge(".a", {"x": None, "z": 3})
        await t.patch(".a", [{"op": "replace", "path": "/y", "value": 5}])
        await t.append(".list", "é\U0001f600")
        await t.increment(".n")
        await t.increment(".n", 0.5)
        await t.delete(".gone")
        await t.set(".deep.down", True, create=True)
        last = await t.increment(".n", by=-1)
        document = {
            "a": {"y": 5, "z": 3},
            "list": [1, "é\U0001f600"],
            "n": 1.5,
            "deep": {"down": True},
        }
        assert await t.get() == document
        assert await api.get(".") == document
        assert await t.get(".a.z") == 3
        assert await t.get(".nope") is MISSING
        assert await t.get(".a.*") == {".a.y": 5, ".a.z": 3}
        assert int(last.split(":")[1]) == int(first.split(":")[1]) + 8


async def test_a_push_gives_its_new_name(connect: Connect, server: Server, api: Api) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        await t.set(".", {"a": {}})
        names = [await t.push(".a", number) for number in range(3)]
        await t.batch([op.push(".a", 3)])
        members = await api.get(".a")
    assert [members[name] for name in names] == [0, 1, 2]
    assert sorted(members, key=members.__getitem__) == sorted(members)


async def test_a_condition_on_a_value(connect: Connect, server: Server, api: Api) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        await t.set(".", {"bid": 5})
        await t.set(".bid", 7, if_={"less": 7})
        with pytest.raises(Changed):
            await t.set(".bid", 6, if_={"less": 6})
        assert await api.get(".bid") == 7


async def test_a_condition_holds_or_nothing_is_written(
    connect: Connect, server: Server, api: Api
) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        position = await t.set(".", {"n": 1})
        position = await t.set(".n", 2, if_=position)
        await t.set(".n", 3)
        with pytest.raises(Changed) as caught:
            await t.set(".n", 4, if_=position)
        assert caught.value.problem["status"] == 412
        assert await t.get(".n") == 3


async def test_a_refusal_is_an_error_with_the_servers_problem(
    connect: Connect, server: Server, api: Api
) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        with pytest.raises(NotFound) as caught:
            await t.set(".no.parent", 1)
        assert caught.value.problem["title"] == caught.value.title
        assert caught.value.detail in str(caught.value)
        with pytest.raises(Refused):
            await t.increment(".", 1)
        with pytest.raises(ValueError, match="JSON"):
            await t.set(".a", float("inf"))
        with pytest.raises(ValueError, match="surrogates"):
            await t.set(".a", "\ud800")
        assert await t.set(".a", 1)


async def test_a_command_that_the_server_cannot_read_is_answered_too(
    connect: Connect, server: Server, api: Api
) -> None:
    """It cannot give back a `ref` then; this once waited for ever."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        with trio.fail_after(PATIENCE_S):
            with pytest.raises(Refused) as caught:
                await t.set(".a", deep)
            assert caught.value.status == 400
            assert await t.get() == {}


async def test_batches(connect: Connect, server: Server, api: Api) -> None:
    await api.reset({"n": 0})
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        same = await t.batch([op.set(".a", 1), op.increment(".n", 2)], atomic=True)
        assert same[0] == same[1]
        each = await t.batch([op.increment(".n"), op.increment(".n")])
        assert each[0] != each[1]
        with pytest.raises(BatchRefused) as caught:
            await t.batch([op.increment(".n"), op.set(".no.parent", 1), op.increment(".n")])
        assert [position is None for position in caught.value.positions] == [False, True, False]
        assert isinstance(caught.value.errors[1], NotFound)
        assert await t.get(".n") == 6
        with pytest.raises(NotFound):
            await t.batch([op.increment(".n"), op.set(".no.parent", 1)], atomic=True)
        assert await t.get(".n") == 6


async def test_many_tasks_write_at_once(connect: Connect, server: Server, api: Api) -> None:
    await api.reset({"n": 0})
    async with connect(f"http://127.0.0.1:{server.port}") as t, t.view(".n") as view:
        async with trio.open_nursery() as nursery:
            for _ in range(1500):  # more than wait without a connection
                nursery.start_soon(t.increment, ".n")
        assert await t.get(".n") == 1500
        await settled(view, 1500)


# ── rooms ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_room(connect: Connect, server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    async with connect(url) as ann, connect(url) as bob:
        async with ann.room("chat") as hers, bob.room("chat") as his:
            assert set(his.members) == {ann.client_id, bob.client_id}
            assert await hers.publish("say", {"text": "hello"}) == 1
            assert await hers.publish("say", "again", echo=True) == 2
            with trio.fail_after(PATIENCE_S):
                first, second = await anext(his), await anext(his)
                own = await anext(hers)
            assert (first.event, first.data, first.room) == ("say", {"text": "hello"}, "chat")
            assert first.sender == ann.client_id
            assert second.data == own.data == "again"
            assert first.missed == second.missed == own.missed == 0
        await bob.get()  # behind his leaving
        assert await ann.publish("say", 1, room="chat") == 0


async def test_a_message_to_one_client(connect: Connect, server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    async with connect(url) as ann, connect(url) as bob, bob.inbox() as inbox:
        assert await ann.publish("psst", [1], to=bob.client_id) == 1
        with trio.fail_after(PATIENCE_S):
            message = await anext(inbox)
        assert (message.event, message.data, message.room) == ("psst", [1], None)
        with pytest.raises(TypeError, match="inbox"):
            await inbox.publish("x")


async def test_a_slow_listener_loses_the_oldest_messages_and_is_told(
    connect: Connect, server: Server
) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        async with t.room("chat", buffer=3) as room:
            for number in range(10):
                await room.publish("n", number, echo=True)
            await t.get(".")  # behind the last
            with trio.fail_after(PATIENCE_S):
                got = [await anext(room) for _ in range(3)]
            assert [message.data for message in got] == [7, 8, 9]
            assert [message.missed for message in got] == [7, 0, 0]


async def test_a_room_with_a_bad_name_is_refused(connect: Connect, server: Server) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        with pytest.raises(Refused):
            async with t.room("a\nb"):
                pass
        with pytest.raises(ValueError, match="buffer"):
            async with t.room("chat", buffer=0):
                pass
