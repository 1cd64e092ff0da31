"""Rooms of two Triodes that share a log: one order, and who goes to the other misses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.app.test_rooms import Member, events, stream
from tests.cluster.conftest import FOUND, NAMES, NONE
from tests.cluster.nodes import client_of, nodes
from tests.cluster.running import node
from tests.cluster.server import Server, running
from tests.cluster.waiting import until
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.store.change import parse_position
from triode.store.operation import Set

pytestmark = pytest.mark.skipif(not FOUND, reason=NONE)


@asynccontextmanager
async def two(server: Server, **options: Any) -> AsyncIterator[tuple[Triode, Triode]]:
    async with node(server.address, **options) as one, node(server.address, **options) as other:
        yield one, other


async def hears(member: Member, count: int) -> list[dict[str, Any]]:
    """So many messages, with all that came with them."""
    found: list[dict[str, Any]] = []
    with trio.fail_after(15):
        while len(found) < count:
            found += await member.messages()
            await trio.sleep(0.01)
    return found


def data(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["data"] for message in messages]


async def test_all_hear_all_in_one_order(server: Server) -> None:
    async with two(server) as (one, other):
        members = [Member(one), Member(other)]
        for member in members:
            await member.ask("join", room="r")
        async with trio.open_nursery() as nursery:

            async def speak(triode: Triode, first: int) -> None:
                for number in range(first, first + 20):
                    await triode.say(["r"], data=number)

            nursery.start_soon(speak, one, 0)
            nursery.start_soon(speak, other, 100)
        heard = [await hears(member, 40) for member in members]
        assert heard[0] == heard[1]
        assert sorted(data(heard[0])) == [*range(20), *range(100, 120)]


async def test_a_message_to_several_rooms_comes_once_and_not_to_its_sender(server: Server) -> None:
    async with two(server) as (one, other):
        sender, listener = Member(one), Member(other)
        for member in (sender, listener):
            await member.ask("join", room=["a", "b"])
        told = await sender.ask("publish", room=["b", "a", "b"], data=1)
        assert told["reached"] == 0, "counts those of the Triode that was asked"
        await one.say(["b"], data=2, sender=sender.client, echo=True)
        heard = await hears(listener, 2)
        assert [(each["room"], each["data"]) for each in heard] == [("b", 1), ("b", 2)]
        assert {each["from"] for each in heard} == {sender.client.id}
        assert await sender.heard() == [2]


async def test_who_goes_to_the_other_misses_nothing(server: Server) -> None:
    """Also in a room that has no members there, and had none."""
    async with two(server) as (one, other):
        goes = Member(one)
        await goes.ask("join", room=["r", "q"])
        await one.say(["r"], data=1)
        await one.say(["q"], data="q1")
        r, q = (message["id"] for message in await hears(goes, 2))
        goes.leave()
        await one.say(["r"], data=2)
        await one.write(Set(("a",), 1))
        await other.say(["r", "q"], data=3)
        back = Member(other)
        answer = await back.ask("join", room=["r", "q"], since={"r": r, "q": q})
        assert answer["resumed"] == {"r": True, "q": True}
        assert data(await hears(back, 2)) == [2, 3]
        await one.say(["q"], data="q2")
        assert data(await hears(back, 1)) == ["q2"]


async def test_a_position_of_the_future_is_waited_for(server: Server) -> None:
    """Who comes from a Triode that is ahead hears nothing twice."""
    async with two(server) as (one, other):
        goes = Member(one)
        await goes.ask("join", room="r")
        back = Member(other)
        answers: list[dict[str, Any]] = []
        assert other.journal is not None
        lock = other.journal.replica.between_batches
        assert isinstance(lock, trio.StrictFIFOLock)
        async with trio.open_nursery() as nursery:
            await lock.acquire()
            await one.say(["r"], data=1)
            [message] = await hears(goes, 1)
            position = parse_position(message["id"])
            assert position is not None
            assert position.seq > other.store.seq

            async def join() -> None:
                answers.append(await back.ask("join", room="r", since=message["id"]))

            nursery.start_soon(join)
            await trio.sleep(0.05)
            assert not answers
            lock.release()
        assert answers[0]["resumed"] is True
        await one.say(["r"], data=2)
        assert data(await hears(back, 1)) == [2]


async def test_an_event_stream_of_one_room_resumes(server: Server) -> None:
    async with two(server) as (one, other):
        await one.say(["r"], data=1)
        at = one.hub.rooms.position(one.hub.join(Member(one).client, "r"))
        await one.say(["r"], data=2)
        await until(lambda: other.store.seq == one.store.seq)
        _, lane = stream(other, at, "r")
        await until(lambda: len(events(lane)) == 2)
        (_, _, connected), (_, id, message) = events(lane)
        assert connected["resumed"] is True
        assert (message["data"], id) == (2, str(other.store.position))


async def test_what_was_forgotten_is_told(server: Server) -> None:
    async with two(server, room_history=3) as (one, other):
        await one.say(["r"], data=0)
        first = str(one.store.position)
        for number in range(1, 5):
            await one.say(["r"], data=number)
        last_but_three = str(one.store.lineage.epoch) + f":{one.store.seq - 3}"
        await until(lambda: other.store.seq == one.store.seq)
        back = Member(other)
        assert (await back.ask("join", room="r", since=first))["resumed"] is False
        assert (await back.ask("join", room="r", since=last_but_three))["resumed"] is True
        assert data(await hears(back, 3)) == [2, 3, 4]


async def test_a_triode_that_is_new_has_what_the_log_has(server: Server) -> None:
    async with node(server.address) as one:
        before = str(one.store.position)
        await one.say(["r"], data=1)
        async with node(server.address) as new:
            back = Member(new)
            assert (await back.ask("join", room="r", since=before))["resumed"] is True
            assert data(await hears(back, 1)) == [1]
            older = f"{new.store.epoch}:{0}"
            assert new.journal is not None
            if new.journal.log.bytes == 0:  # a snapshot was made meanwhile
                assert (await back.ask("join", room="q", since=older))["resumed"] is False


async def test_messages_push_nothing_out_of_the_history(server: Server) -> None:
    async with node(server.address, history_items=5) as one:
        before = one.store.position
        await one.write(Set(("a",), 1))
        for number in range(10):
            await one.say(["r"], data=number)
        assert one.store.can_resume(before)


async def test_rights_and_sizes_are_asked_before_the_log(server: Server) -> None:
    async with node(server.address) as one:
        seq = one.store.seq
        with pytest.raises(Refusal, match="rooms may have"):
            await one.say([f"r{number}" for number in range(100)], data="x" * 100_000)
        with pytest.raises(RuntimeError, match="use `say`"):
            one.publish(rooms=["r"], data=1)
        assert one.store.seq == seq


async def test_a_server_that_lost_it_is_given_it_back(tmp_path: Path) -> None:
    """Nothing that was said is lost while one lives that has it; nothing is heard twice."""
    async with running(FOUND[NAMES[0]], tmp_path) as server, two(server) as (one, other):
        members = [Member(one), Member(other)]
        for member in members:
            await member.ask("join", room="r")
        await one.say(["r"], data=1)
        assert [data(await hears(member, 1)) for member in members] == [[1], [1]]
        at = str(one.store.position)
        await one.say(["r"], data=2)
        await until(lambda: other.store.seq == one.store.seq)
        server.kill()
        await server.start()
        await until(lambda: one.store.epoch == other.store.epoch != at.partition(":")[0])
        await other.say(["r"], data=3)
        assert [data(await hears(member, 2)) for member in members] == [[2, 3], [2, 3]]
        back = Member(one)
        assert (await back.ask("join", room="r", since=at))["resumed"] is True
        assert data(await hears(back, 2)) == [2, 3]


async def test_over_http(server: Server, tmp_path: Path) -> None:
    async with nodes(server.url, tmp_path, 2) as (one, other), client_of() as client:
        async with client.stream("GET", f"{other.url}/events?room=r") as answer:
            lines = answer.aiter_lines()
            with trio.fail_after(15):
                async for line in lines:
                    if "connected" in line:
                        break
                sent = await client.post(f"{one.url}/publish", json={"room": "r", "data": 7})
                assert (sent.status_code, sent.json()) == (200, {"reached": 0})
                async for line in lines:
                    if '"data":7' in line:
                        break
