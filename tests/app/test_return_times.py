"""When clients that are sent away come back: the rate that counts them lets every one in."""

from __future__ import annotations

import dataclasses

import pytest

from tests.app.lanes import FakeLane
from tests.app.test_hub import running
from triode.app.config.settings import Settings
from triode.app.delivery.subscriber import Client
from triode.app.service.return_times import ReturnTimes
from triode.app.service.triode import Triode
from triode.limits.address import ip_key
from triode.limits.principal import OWNER
from triode.limits.rate import Buckets, Rate

CROWD = 3000


def clients(triode: Triode, number: int, ip: str) -> list[Client]:
    principal = dataclasses.replace(OWNER, key=ip_key(ip))
    return [triode.hub.open("sse", FakeLane(), principal, ip, {}) for _ in range(number)]


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


async def test_many_addresses_share_the_window() -> None:
    async with running() as triode:
        crowd = [clients(triode, 1, f"10.0.{n // 250}.{n % 250}")[0] for n in range(2000)]
        times = ReturnTimes(Settings(), crowd)
        told = [times.next_ms(client) for client in crowd]
        assert min(told) >= 500
        assert max(told) <= 500 + 2000
        # Even: four standard deviations.
        assert 880 < sum(ms < 1500 for ms in told) < 1120
