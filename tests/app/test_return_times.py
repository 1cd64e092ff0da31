"""When clients that are sent away come back: nobody is refused for doing what it was told."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from trio.testing import MockClock

from tests.app.lanes import FakeLane
from tests.app.test_hub import running
from tests.app.web import serving
from triode.app.config.settings import Settings
from triode.app.delivery.subscriber import Client
from triode.app.net.request_head import Head
from triode.app.service.return_times import ReturnTimes, longest_absence_s
from triode.app.service.stream_start import open_stream
from triode.app.service.triode import Triode
from triode.app.wire.frame import Kind
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import StreamRequest
from triode.limits.address import ip_key
from triode.limits.principal import OWNER
from triode.limits.rate import Buckets, Rate
from triode.store.filter import parse_filter

CROWD = 3000
HEAD = Head("GET", "/events", "/events", "", [], version="1.1", peer="203.0.113.9", secure=False)


def clients(triode: Triode, number: int, ip: str, kind: Kind = "sse") -> list[Client]:
    principal = dataclasses.replace(OWNER, key=ip_key(ip))
    crowd = [triode.hub.open(kind, FakeLane(), principal, ip, {}) for _ in range(number)]
    for client in crowd:
        triode.hub.subscribe(client, [(parse_filter(".x"), client.policy)])
    return crowd


@pytest.mark.parametrize("rate", [Rate(100, 20), Rate(100, 200), Rate(5, 20), Rate(1000, 100)])
async def test_the_rate_lets_in_all_who_were_sent_away(rate: Rate) -> None:
    async with running() as triode:
        settings = Settings(http_rate=rate)
        crowd = clients(triode, CROWD, "203.0.113.9") + clients(triode, 10, "203.0.113.10")
        times = ReturnTimes(settings, crowd)
        told = sorted((times.next_ms(client), client.principal.key) for client in crowd)
        buckets = Buckets(rate)
        refused = [key for ms, key in told if not buckets.allow(key, ms / 1000)]
        assert refused == []
        # And no later than it has to be.
        assert told[-1][0] <= 500 + max(1000, CROWD / (0.75 * rate.rps) * 1000, CROWD)


async def test_after_a_restart_a_crowd_of_one_address_is_back_soon() -> None:
    async with running() as triode:
        streams = clients(triode, CROWD, "203.0.113.9")
        sockets = clients(triode, 600, "203.0.113.9", "ws")
        times = ReturnTimes(Settings(), streams + sockets, restart=True)
        told = [times.next_ms(client) for client in streams]
        assert min(told) >= 3000
        assert max(told) <= 3000 + 3600
        browsers = clients(triode, 3, "203.0.113.9")
        for client in browsers:
            client.is_browser_stream = True
        for longest_s, expected_ms in ((10, 10_000), (1, 1000)):
            times = ReturnTimes(Settings(retry_min_s=longest_s), browsers + streams, restart=True)
            told = [times.next_ms(client) for client in browsers]
            assert expected_ms <= min(told) <= max(told) <= expected_ms + 3603
            assert min(map(times.next_ms, streams)) < min(expected_ms, 3000) + 100
        times = ReturnTimes(Settings(), sockets, restart=True)
        # Those are charged, and come as the rate lets them in.
        told = sorted(times.next_ms(client) for client in sockets)
        buckets = Buckets(Rate(100, 20))
        assert all(buckets.allow("", ms / 1000) for ms in told)


@pytest.mark.parametrize(
    ("method", "kind", "accepts", "is_one"),
    [
        ("GET", "sse", "text/event-stream", True),
        ("GET", "sse", "text/event-stream, application/problem+json", False),
        ("GET", "sse", "*/*", False),
        ("POST", "sse", "text/event-stream", False),
        ("GET", "ws", "text/event-stream", False),
    ],
)
async def test_who_is_an_event_source(method: str, kind: Kind, accepts: str, is_one: bool) -> None:
    fields = [("accept", accepts)]
    head = Head(method, "/events", "/events", "", fields, version="1.1", peer="::1", secure=False)
    async with running() as triode:
        asked = StreamRequest(rooms=("r",))
        client = open_stream(triode, kind, FakeLane(), head, asked, OWNER)
        assert client.is_browser_stream is is_one


async def test_a_new_server_does_not_charge_those_who_come_back(autojump_clock: MockClock) -> None:
    async with serving(http_rate=Rate(1, 1), max_clients=8) as web:
        triode = web.triode

        async def comes(*, returns: bool = True) -> bool:
            try:
                await triode.gate.visit(HEAD, returns=returns)
            except Refusal as refusal:
                return refusal.status != 429
            return True

        assert await comes(returns=False)
        assert not await comes(returns=False)
        # As often as half of the places; then it is charged as ever.
        assert [await comes() for _ in range(5)] == [True] * 4 + [False]
        await trio.sleep(longest_absence_s(triode.settings))
        assert [await comes() for _ in range(2)] == [True, False]


async def test_the_time_of_free_streams_ends(autojump_clock: MockClock) -> None:
    async with serving(http_rate=Rate(0.001, 1)) as web:
        await trio.sleep(longest_absence_s(web.triode.settings))
        await web.triode.gate.visit(HEAD, returns=True)
        with pytest.raises(Refusal, match="too many requests"):
            await web.triode.gate.visit(HEAD, returns=True)


async def test_many_addresses_share_the_window() -> None:
    async with running() as triode:
        crowd = [clients(triode, 1, f"10.0.{n // 250}.{n % 250}")[0] for n in range(2000)]
        times = ReturnTimes(Settings(), crowd)
        told = [times.next_ms(client) for client in crowd]
        assert min(told) >= 500
        assert max(told) <= 500 + 2000
        # Even: four standard deviations.
        assert 880 < sum(ms < 1500 for ms in told) < 1120
