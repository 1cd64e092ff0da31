"""What an admin sees of clients: counts that are exact whatever a client goes through, states, and
the order of those who are behind.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import connect, running, settle
from triode.app.config.settings import Settings
from triode.app.delivery.subscriber import Client
from triode.app.service.client_info import portrait
from triode.app.service.client_queries import ends_log, furthest_behind, portraits, select
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.frame import Frame, control
from triode.store.operation import Set


def seen(triode: Triode, client: Client) -> dict[str, Any]:
    return portrait(client, triode.hub.tags, trio.current_time())


def say(triode: Triode, client: Client) -> None:
    """Something for this client alone."""
    triode.hub.push(client, Frame(control("ws", "ok", {})))


class Peers:
    """Clients with lanes, and what may happen to them. `check` holds at every moment of calm."""

    def __init__(self, triode: Triode, seed: int) -> None:
        self.triode = triode
        self.random = random.Random(seed)
        self.lanes: dict[Client, FakeLane] = {}
        self.value = 0

    def connect(self) -> None:
        lane = FakeLane(self.random.choice([None, None, 0, 40]))
        if self.random.random() < 0.2:
            lane.send_now = None
        filters = self.random.choice([(".a",), (".a", ".b")])
        self.lanes[connect(self.triode, lane, *filters)] = lane

    def write(self) -> None:
        self.value += 1
        self.triode.write_nowait(Set(("a",), self.value))

    def say(self) -> None:
        say(self.triode, self.random.choice(list(self.lanes)))

    def move(self) -> None:
        client = self.random.choice(list(self.lanes))
        if ".b" in client.subscriptions:
            self.triode.hub.unsubscribe(client, ".b")
        else:
            self.triode.hub.join(client, f"r{self.random.randrange(2)}")

    def feed(self) -> None:
        lane = self.random.choice(list(self.lanes.values()))
        lane.feed(self.random.choice([None, 0, 30, 500]))

    def lose(self) -> None:
        self.random.choice(list(self.lanes.values())).lost = True

    def check(self) -> None:
        for client, lane in list(self.lanes.items()):
            if client.end is not None:
                del self.lanes[client]
                continue
            told = seen(self.triode, client)
            if lane.appetite is None and lane.send_now is not None:
                assert told["sent"] == len(lane.messages())
            assert told["sent_bytes"] == len(lane.taken)
            assert told["sent"] >= 0


@pytest.mark.parametrize("seed", range(20))
async def test_what_was_sent_is_counted_whatever_happens(seed: int) -> None:
    async with running(Settings(queue_items=3)) as triode:
        peers = Peers(triode, seed)
        for _ in range(4):
            peers.connect()
        steps = [peers.connect, peers.write, peers.say, peers.move, peers.feed, peers.lose]
        for _ in range(300):
            if not peers.lanes:
                peers.connect()
            peers.random.choices(steps, [2, 10, 6, 3, 5, 1])[0]()
            if peers.random.random() < 0.3:
                await settle()
                peers.check()


async def test_all_that_was_sent_together_is_what_the_server_counts() -> None:
    async with running() as triode:
        lanes = [FakeLane() for _ in range(5)]
        clients = [connect(triode, lane, ".a") for lane in lanes]
        for number in range(10):
            triode.write_nowait(Set(("a",), number))
            say(triode, clients[number % 3])
            if number % 4 == 0:
                await settle()
        await settle()
        assert triode.metrics.bytes_out == sum(len(lane.taken) for lane in lanes)
        assert triode.metrics.events_total == sum(len(lane.messages()) for lane in lanes)


async def test_heartbeats_are_bytes_but_no_events(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        await trio.sleep(31)
        told = seen(triode, client)
        assert told["sent"] == 2
        assert told["sent_bytes"] == len(lane.taken)


async def test_states_and_the_order_of_those_behind() -> None:
    async with running(Settings(queue_items=2)) as triode:
        lanes = [FakeLane(), FakeLane(), FakeLane()]
        flows, waits, loses = [connect(triode, lane, ".a") for lane in lanes]
        await settle()
        for lane in lanes[1:]:
            lane.feed(0)
        say(triode, waits)
        for number in range(6):
            triode.write_nowait(Set(("a",), "x" * 100 + str(number)))
            if number == 0:
                triode.hub.unsubscribe(waits, ".a")
            await settle()
        states = [seen(triode, client)["state"] for client in (flows, waits, loses)]
        assert states == ["flowing", "slow", "healing"]
        told = seen(triode, loses)
        assert told["queued"] == 2, "one more is in the hands of the writer"
        assert told["dropped"] == 3
        assert told["drops"] == {"queue_full": 3}
        order = await furthest_behind(triode.hub, 10, flowing=False)
        assert order == [loses, waits]
        assert await furthest_behind(triode.hub, 10, flowing=True) == [loses, waits, flows]
        assert await furthest_behind(triode.hub, 1, flowing=True) == [loses]
        lanes[2].feed(None)
        await settle()
        told = seen(triode, loses)
        assert (told["state"], told["queued"], told["heals"]) == ("flowing", 0, 1)


async def test_how_long_the_oldest_has_waited(autojump_clock: trio.testing.MockClock) -> None:
    async with running(Settings(heartbeat_s=1000, idle_s=2000)) as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        await settle()
        lane.feed(0)
        triode.write_nowait(Set(("a",), 1))  # in the hands of the writer
        await trio.sleep(1)
        triode.write_nowait(Set(("a",), 2))
        await trio.sleep(5)
        assert seen(triode, client)["oldest_s"] == pytest.approx(5, abs=1.1)
        assert seen(triode, client)["connected_s"] == pytest.approx(6)


async def test_selecting() -> None:
    async with running() as triode:
        hub = triode.hub
        one, two, three = [connect(triode, FakeLane()) for _ in range(3)]
        hub.tags.update(one, {"g": "x", "u": "1"})
        hub.tags.update(two, {"g": "x"})
        assert select(hub, [], {}) == []
        assert select(hub, [], {"g": "x"}) == [one, two]
        assert select(hub, [], {"g": "x", "u": "1"}) == [one]
        assert select(hub, [three.id, two.id, "c_"], {}) == [three, two]
        assert select(hub, [three.id, two.id], {"g": "x"}) == [two]
        assert select(hub, ["c_"], {"g": "x"}) == []


async def test_one_frame_for_all_of_a_group_and_for_some() -> None:
    async with running() as triode:
        lanes = [FakeLane() for _ in range(3)]
        clients = [connect(triode, lane, ".a") for lane in lanes]
        made: list[str] = []

        def encode(kind: Any) -> Frame:
            made.append(kind)
            return Frame(control(kind, "message", {"n": len(made)}))

        assert triode.hub.send(clients, encode) == 3
        assert triode.hub.send(clients[:2], encode) == 2
        triode.hub.end(clients[0], end_reasons.NORMAL, "silently")
        assert triode.hub.send(clients, encode) == 2
        await settle()
        assert made == ["ws"] * 3
        counts = [[m["n"] for m in lane.messages() if m["type"] == "message"] for lane in lanes]
        assert counts == [[], [1, 2, 3], [1, 3]]


async def test_portraits_of_those_who_are_still_there() -> None:
    async with running() as triode:
        clients = [connect(triode, FakeLane()) for _ in range(250)]
        triode.hub.end(clients[3], end_reasons.NORMAL, "silently")
        assert len(await portraits(triode.hub, clients)) == 249


async def test_the_log_of_ends_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as triode:
        for _ in range(205):
            last = connect(triode, FakeLane())
            triode.hub.end(last, end_reasons.CLIENT_LOST, "silently")
        at_ms = triode.clock.unix_ms()
        await trio.sleep(3)
        log = ends_log(triode.hub, triode.clock)
        assert len(log) == 200
        assert log[0]["client"] == last.id
        assert log[0]["reason"] == "client_lost"
        assert abs(log[0]["time"] - at_ms) <= 1
