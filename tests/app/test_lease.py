"""The lease of an event stream, on virtual time: it ends unless its client says it is there."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import running
from triode.app.config.settings import Settings
from triode.app.delivery.subscriber import Client
from triode.app.service import renewal, stream_start
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import StreamRequest, check_lease
from triode.limits.principal import OWNER
from triode.store.filter import parse_filter


def connect(triode: Triode, lease_s: float | None) -> tuple[Client, FakeLane]:
    lane = FakeLane()
    client = triode.hub.open("sse", lane, OWNER, "127.0.0.1", {})
    stream_start.begin(
        triode.hub, client, StreamRequest((parse_filter(".a"),), lease_s=lease_s), version="0"
    )
    return client, lane


async def test_a_stream_whose_lease_runs_out_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as triode:
        client, lane = connect(triode, 10)
        forever, _ = connect(triode, None)
        await trio.sleep(9.5)
        assert not client.has_ended()
        await trio.sleep(2)
        assert client.end is not None
        assert client.end.label == "lease"
        assert b'"lease_s":10' in lane.taken
        assert b'event: closing\ndata: {"reason":"lease"' in lane.taken
        assert lane.woken == 1
        assert triode.metrics.ends["lease"] == 1
        await trio.sleep(10_000)
        assert not forever.has_ended()


async def test_who_says_it_is_there_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as triode:
        client, _ = connect(triode, 10)
        for _ in range(20):
            await trio.sleep(8)
            renewal.keep_alive(triode, client.id, client.secret)
        assert not client.has_ended()
        await trio.sleep(11.5)
        assert client.has_ended()
        with pytest.raises(Refusal, match="no such client") as gone:
            renewal.keep_alive(triode, client.id, client.secret)
        assert gone.value.status == 404


async def test_a_stream_without_a_lease_has_nothing_to_renew() -> None:
    async with running(Settings()) as triode:
        client, lane = connect(triode, None)
        with pytest.raises(Refusal, match="lease=SECONDS") as refused:
            renewal.keep_alive(triode, client.id, client.secret)
        assert refused.value.status == 409
        assert b"lease" not in lane.taken


@pytest.mark.parametrize("value", ["5", "5.5", "3600", 5, 3600.0, "0030"])
def test_leases(value: Any) -> None:
    assert check_lease(value) == float(value)


@pytest.mark.parametrize(
    "value", ["", "4.99", 4, 3601, "3600.1", "-5", "1e3", "nan", "inf", True, [5], "٣٠"]
)
def test_what_is_no_lease(value: Any) -> None:
    with pytest.raises(Refusal, match="5 to 3600 seconds"):
        check_lease(value)
