"""Clients of another Triode that shares the log: they are written to, listed, tagged and closed
from any of them.
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.lowlevel

from tests.app.test_rooms import Member
from tests.cluster.conftest import FOUND, NAMES, NONE
from tests.cluster.nodes import Node, client_of, nodes
from tests.cluster.running import node
from tests.cluster.server import Server, running
from tests.cluster.test_rooms import data, hears, two
from tests.cluster.waiting import until
from triode.app.log.log import LogAway, NodeGone, NodeSilent
from triode.app.log.shared.valkey import ValkeyLog
from triode.app.service.control import Message, Order
from triode.app.service.peers import node_of
from triode.app.wire.refusal import Refusal
from triode.limits.grant import Grant
from triode.limits.principal import Principal

pytestmark = pytest.mark.skipif(not FOUND, reason=NONE)

PATIENCE_S = 30.0


async def knows(*triodes: Any) -> None:
    """Until each knows of all."""
    for triode in triodes:
        await until(lambda: len(triode.journal.shared.standing.nodes) == len(triodes), PATIENCE_S)  # noqa: B023


async def test_a_message_reaches_the_client_where_it_is(server: Server) -> None:
    async with two(server) as (one, other):
        sender, listener = Member(one), Member(other)
        big = 2**80
        told = await sender.ask("publish", to=listener.client.id, event="hi", data={"n": big})
        assert told["reached"] == 1
        [message] = await hears(listener, 1)
        assert (message["event"], message["data"]) == ("hi", {"n": big})
        assert message["from"] == sender.client.id
        assert (one.peers.asked, other.peers.answered) == (1, 1)  # type: ignore[union-attr]


async def test_who_is_in_no_room_with_it_may_not_write_to_it(server: Server) -> None:
    async with two(server) as (one, other):
        sender, listener = Member(one), Member(other)
        sender.client.principal = Principal("p", "k", Grant(read=("**",), write=(), rooms=("**",)))
        to = listener.client.id
        assert (await sender.ask("publish", to=to))["status"] == 403
        await sender.ask("join", room=["a", "r"])
        assert (await sender.ask("publish", to=to))["status"] == 403
        await listener.ask("join", room=["r"])
        assert (await sender.ask("publish", to=to, data=1))["reached"] == 1


async def test_tags_and_lists_are_of_all(server: Server) -> None:
    async with two(server) as (one, other):
        await knows(one, other)
        here, there = Member(one), Member(other)
        assert one.peers is not None
        everyone = await one.peers.order(Order("list", [], {}, 10))
        assert {found["client"] for found in everyone["connections"]} == {
            here.client.id,
            there.client.id,
        }
        assert (everyone["total"], everyone["nodes"]) == (2, {"answered": 1, "missing": []})
        few = await one.peers.order(Order("list", [], {}, 1))
        assert (len(few["connections"]), few["total"]) == (1, 2)
        ids = [here.client.id, there.client.id]
        tagged = await one.peers.order(Order("tag", ids, {}, new_tags={"team": "a"}))
        assert tagged["reached"] == 2
        sent = Message("text", b'{"type":"message","data":"all"}', "admin", 1)
        told = await one.peers.order(Order("send", [], {"team": "a"}, message=sent))
        assert told == {"reached": 2, "nodes": {"answered": 1, "missing": []}}
        assert (await here.ask("publish", tags={"team": "a"}, data=5))["reached"] == 1
        assert data(await hears(there, 2)) == ["all", 5]
        # Ids say where: nobody else is asked.
        asked = one.peers.asked
        assert await one.peers.order(Order("send", ids[:1], {}, message=sent)) == {"reached": 1}
        assert one.peers.asked == asked
        many: dict[str, str | None] = {f"t{number}": "x" for number in range(32)}
        with pytest.raises(Refusal, match="tags"):
            await one.peers.order(Order("tag", ids[1:], {}, new_tags=many))
        closed = await one.peers.order(Order("close", ids[1:], {}))
        assert closed["reached"] == 1
        assert there.client.end is not None


async def test_a_node_that_has_gone_has_no_clients(server: Server) -> None:
    async with node(server.address) as one:
        sender = Member(one)
        async with node(server.address) as other:
            to = Member(other).client.id
        assert (await sender.ask("publish", to=to))["reached"] == 0
        assert one.peers is not None
        assert (await one.peers.order(Order("close", [to], {})))["nodes"]["missing"] == []


async def test_letters_are_not_answered_after_their_time(each_server: Server) -> None:
    """As those for a node that was frozen. And none is carried out twice, or kept for nobody."""
    server = each_server
    one, other = ValkeyLog(server.address), ValkeyLog(server.address)
    answered: list[bytes] = []

    async def answer(question: bytes) -> bytes:
        answered.append(question)
        await trio.lowlevel.checkpoint()
        return b"yes: " + question

    async with trio.open_nursery() as nursery:
        for log in (one, other):
            nursery.start_soon(log.run)
            nursery.start_soon(log.open)
        await until(lambda: bool(other._member.server and one._member.server), PATIENCE_S)
        with pytest.raises(LogAway):
            await one.post.ask(other.node, b"0", 0.1)
        one.post._is_running = True
        with pytest.raises(LogAway, match="not in reach"):
            await one.post.ask(other.node, b"it waits, and is not sent", 0.01)
        nursery.start_soon(one.post.run, answer)
        await until(lambda: not one.post.waiting_bytes)
        with pytest.raises(NodeSilent):
            await one.post.ask(other.node, b"1", 0.2)
        with pytest.raises(NodeGone):
            await one.post.ask("000000000000", b"2", PATIENCE_S)
        await trio.sleep(0.25)
        # Its key outlives it where another letter has longer.
        box = one._keys.box(other.node)
        await server.call("RPUSH", box, f"1 q x {one.node} late")
        nursery.start_soon(other.post.run, answer)
        assert await one.post.ask(other.node, b"a b\n\xff", PATIENCE_S) == b"yes: a b\n\xff"
        assert answered == [b"a b\n\xff"]
        assert one.post.waiting_bytes == other.post.waiting_bytes == 0
        assert await server.call("EXISTS", box) == 0
        nursery.cancel_scope.cancel()


async def test_a_server_that_was_replaced_carries_letters_again(tmp_path: Path) -> None:
    async with running(FOUND[NAMES[0]], tmp_path) as server, two(server) as (one, other):
        sender, listener = Member(one), Member(other)
        server.kill()
        to = listener.client.id
        refused = await sender.ask("publish", to=to, data=1)
        assert refused["status"] == 503
        await server.start()
        with trio.fail_after(PATIENCE_S):
            told: dict[str, Any] = {}
            while told.get("reached") != 1:
                told = await sender.ask("publish", to=to, data=2)
        assert data(await hears(listener, 1))[-1] == 2


@asynccontextmanager
async def stream(client: httpx.AsyncClient, at: Node) -> AsyncIterator[tuple[str, Any]]:
    """An event stream: the id that it has, and its lines."""
    async with client.stream("GET", f"{at.url}/events?filter=.") as answer:
        lines = answer.aiter_lines()
        async for line in lines:
            if line.startswith("data:") and '"client"' in line:
                yield json.loads(line[5:])["client"], lines
                break


async def test_three_processes(server: Server, tmp_path: Path) -> None:
    """Over HTTP; and one that is frozen is named as missing."""
    # Longer than 5 s: three processes are started.
    async with nodes(server.url, tmp_path, 3) as (one, two, three), client_of(40) as http:
        with trio.fail_after(120):
            async with stream(http, two) as (id, lines):
                assert node_of(id) is not None
                sent = await http.post(f"{one.url}/publish", json={"to": id, "data": 7})
                assert sent.json() == {"reached": 1}
                async for line in lines:
                    if '"data":7' in line:
                        break
                listed: dict[str, Any] = {}
                while listed.get("nodes") != {"answered": 2, "missing": []}:
                    listed = (await http.get(f"{one.url}/connections")).json()
                assert [found["client"] for found in listed["connections"]] == [id]
                assert three._process is not None
                three._process.send_signal(signal.SIGSTOP)
                listed = (await http.get(f"{one.url}/connections")).json()
                assert listed["total"] == 1
                assert len(listed["nodes"]["missing"]) == 1
                three._process.send_signal(signal.SIGCONT)
                closed = await http.post(f"{three.url}/connections/close?id={id}", json={})
                assert closed.json()["reached"] == 1
                async for line in lines:
                    if "closing" in line:
                        break
                else:
                    raise AssertionError("the stream ended without a word")
