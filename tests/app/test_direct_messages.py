"""Messages from one client to another: who may send them, and how many of them wait."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect, start
from triode.app.delivery.outbox import CONTROL_ITEMS
from triode.app.delivery.subscriber import Client
from triode.app.service.messages import Published
from triode.app.service.session import Session
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import OWN_EVENTS
from triode.limits.grant import Grant
from triode.limits.principal import Principal
from triode.store.operation import Set
from triode.store.value import encode


def stranger(name: str) -> Principal:
    return Principal(key=f"token:{name}", name=name, grant=Grant(), source="token")


def member(triode: Triode, name: str, lane: FakeLane, *rooms: str) -> Client:
    client = connect(triode, lane, ".a", rooms=rooms)
    client.principal = stranger(name)
    return client


def write_to(triode: Triode, sender: Client, to: Client, data: Any = None) -> Published:
    return triode.publish(sender.principal, to=to.id, data=data, sender=sender)


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_big_messages_do_not_end_who_does_not_read(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0})
    lane = FakeLane()
    mallory = member(triode, "mallory", FakeLane(), "r")
    victim = member(triode, "victim", lane, "r")
    await settle()
    lane.feed(0)
    told = []
    for _ in range(200):
        told.append(write_to(triode, mallory, victim, "x" * 60_000))
        await settle()
    # One is with the writer, one waits.
    assert told == [Published(1)] * 2 + [Published(0, dropped=1)] * 198
    assert triode.metrics.drops["direct", "queue_full"] == 198
    assert victim.drops == {"direct": 198}
    await triode.write(Set(("a",), 1))
    lane.feed(None)
    await settle()
    assert victim.state == "flowing"
    assert lane.types()[2:] == ["message", "message", "update"]
    assert write_to(triode, mallory, victim) == Published(1)


async def test_one_sender_leaves_room_for_others_and_for_answers(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0}, direct_items=4)
    lane = FakeLane()
    victim = member(triode, "victim", lane, "r")
    senders = [member(triode, f"s{number}", FakeLane(), "r") for number in range(6)]
    await settle()
    lane.feed(0)
    await triode.write(Set(("a",), "with the writer"))
    await settle()
    reached = [sum(write_to(triode, s, victim).reached for _ in range(9)) for s in senders]
    assert reached == [4, 4, 4, 4, 0, 0]
    await settle()
    for _ in range(CONTROL_ITEMS // 2):
        triode.hub.tell(victim, "ok", {})
    for value in range(triode.settings.queue_items):
        await triode.write(Set(("a",), value))
        await settle()
    assert victim.state == "slow"
    assert victim.outbox is not None
    lane.feed(None)
    await settle()
    assert lane.types().count("message") == 16
    assert lane.types().count("update") == triode.settings.queue_items + 1


async def test_who_reads_gets_all_that_is_sent_in_one_go(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0}, direct_items=4)
    lane = FakeLane()
    one, two = member(triode, "one", FakeLane(), "r"), member(triode, "two", lane, "r")
    await settle()
    for number in range(50):
        assert write_to(triode, one, two, number) == Published(1)
    await settle()
    assert [m["data"] for m in lane.messages() if m["type"] == "message"] == [*range(50)]


async def test_the_sender_is_told_what_was_dropped(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0}, direct_items=1)
    lane = FakeLane()
    one, two = member(triode, "one", lane, "r"), member(triode, "two", FakeLane(0), "r")
    session = Session(triode, one)
    for _ in range(3):
        await session.receive(encode({"type": "publish", "to": two.id}))
        await settle()
    answers = [{k: v for k, v in m.items() if k != "type"} for m in lane.messages()[2:]]
    assert answers[-1] == {"reached": 0, "dropped": 1}


async def test_only_room_mates_and_admins_may_write_to_a_client(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0})
    one, two = member(triode, "one", FakeLane(), "r"), member(triode, "two", FakeLane(), "other")
    with pytest.raises(Refusal, match="room with you") as refused:
        write_to(triode, one, two)
    assert refused.value.status == 403
    with pytest.raises(Refusal, match="room with you"):
        triode.publish(one.principal, to=two.id)  # over HTTP it is in no room
    assert triode.metrics.messages_published == 0
    assert triode.publish(one.principal, to="c_nobody", sender=one) == Published(0)
    assert triode.publish(one.principal, to=one.id, sender=one, echo=True) == Published(1)
    triode.hub.join(one, "other")
    assert write_to(triode, one, two) == Published(1)
    triode.hub.leave(one, "other")
    one.principal = Principal(key="token:admin", name="admin", grant=Grant(admin=True))
    assert write_to(triode, one, two) == Published(1)


@pytest.mark.parametrize("name", sorted(OWN_EVENTS))
async def test_no_message_has_the_name_of_an_event_of_the_server(
    nursery: trio.Nursery, name: str
) -> None:
    triode = await start(nursery, {"a": 0})
    with pytest.raises(Refusal, match="server itself") as refused:
        triode.publish(rooms=["r"], event=name)
    assert refused.value.status == 400
