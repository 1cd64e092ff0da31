"""`max_event` inside: what is shared, what a slow client gets, and the bounds."""

from __future__ import annotations

import pytest
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import running
from triode.app.service import stream_start
from triode.app.service.triode import Triode
from triode.app.wire.max_event import check_max_event
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import StreamRequest
from triode.limits.policy import Policy
from triode.limits.principal import OWNER
from triode.store.filter import parse_filter
from triode.store.operation import Set

LONG = "x" * 5000
quiet = trio.testing.wait_all_tasks_blocked


def listen(
    triode: Triode, lane: FakeLane, most: int, policy: Policy = Policy.DROP_NEWEST
) -> FakeLane:
    client = triode.hub.open("ws", lane, OWNER, "127.0.0.1", {})
    request = StreamRequest((parse_filter(".a"),), policy=policy, max_event=most)
    stream_start.begin(triode.hub, client, request, version="0")
    return lane


@pytest.mark.parametrize(
    ("given", "bound"), [(None, 0), (1024, 1024), ("2047", 1024), (65536, 65536), (70_000, 65536)]
)
def test_bounds_are_powers_of_two(given: object, bound: int) -> None:
    assert check_max_event(given) == bound


@pytest.mark.parametrize("given", [0, True, 1023, "+2000", "٢٠٠٠", 2**31, [2000], 2000.0])
def test_what_is_no_bound_is_refused(given: object) -> None:
    with pytest.raises(Refusal):
        check_max_event(given)


async def test_clients_of_one_bound_share_frames_and_groups(autojump_clock: object) -> None:
    async with running(root={"a": 0}) as triode:
        lanes = [listen(triode, FakeLane(), check_max_event(most)) for most in (2048, 3000, 2**20)]
        free = listen(triode, FakeLane(), 0)
        await quiet()
        groups = {client.group for client in triode.hub.clients.values()}
        assert sorted(len(group) for group in groups if group) == [1, 1, 2]
        await triode.write(Set(("a",), LONG))
        await quiet()
        last = [lane.messages()[-1] for lane in (*lanes, free)]
        assert last[0] == last[1]
        assert last[0]["fetch"] == "/store?path=.a"
        assert "value" not in last[0]
        assert last[2] == last[3]
        assert last[3]["value"] == LONG
        assert last[0]["id"] == last[3]["id"]


async def test_the_newest_value_of_a_slow_client_is_fetched_too(autojump_clock: object) -> None:
    async with running(root={"a": 0}) as triode:
        lane = listen(triode, FakeLane(), 1024, Policy.LATEST)
        await quiet()
        lane.feed(0)
        for number in range(triode.settings.queue_items + 50):
            await triode.write(Set(("a",), LONG + str(number)))
            await quiet()
        lane.feed(None)
        await quiet()
        last = lane.messages()[-1]
        assert (last["type"], last["fetch"]) == ("update", "/store?path=.a")
        assert "value" not in last
        told = [m for m in lane.messages() if m["type"] == "update"]
        missed = [m["missed"] for m in told if "missed" in m]
        assert len(told) + sum(int(str(m)) for m in missed) == triode.settings.queue_items + 50
