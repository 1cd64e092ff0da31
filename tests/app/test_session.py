"""When a WebSocket session is ended for what it sends."""

from __future__ import annotations

import itertools

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect, start
from triode.app.access import charged
from triode.app.blueprints.batch import Run
from triode.app.delivery.subscriber import Client
from triode.app.service.session import MAX_ERRORS, Session
from triode.app.wire import end_reasons
from triode.limits.cpu_share import STEPS_A_SECOND
from triode.limits.grant import FULL
from triode.limits.principal import Principal
from triode.limits.rate import Buckets, Rate
from triode.store.value import encode

GET = encode({"type": "get", "filter": ".a"})
BAD = encode({"type": "nonsense"})


async def rated(nursery: trio.Nursery, rate: Rate) -> tuple[Session, Client]:
    triode = await start(nursery, {"a": 0})
    client = connect(triode, FakeLane())
    client.rates = Buckets(rate)
    return Session(triode, client), client


@pytest.mark.parametrize("message", [GET, BAD])
async def test_a_flood_ends_though_some_of_it_is_within_the_rate(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, message: bytes
) -> None:
    """1000 a second where 50 are allowed: 1 of 20 is carried out, the others are refused."""
    session, client = await rated(nursery, Rate(50, 10))
    count = 0
    while not client.has_ended():
        await session.receive(message)
        count += 1
        await trio.sleep(0.001)
    assert client.end is end_reasons.RATE
    # 10 at once are fine; then 20 messages bring 19 refusals, one of which is taken back.
    assert MAX_ERRORS + 10 < count < MAX_ERRORS + 10 + 14


async def test_who_is_refused_now_and_then_stays(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """80 a second where 50 are allowed, for a minute."""
    session, client = await rated(nursery, Rate(50, 10))
    for _ in range(60 * 80):
        await session.receive(GET)
        await trio.sleep(1 / 80)
    assert not client.has_ended()


async def test_bad_commands_in_a_row_end_it(nursery: trio.Nursery) -> None:
    session, client = await rated(nursery, Rate(1e6, 1000))
    for message in [*[BAD] * (MAX_ERRORS - 1), GET, *[BAD] * (MAX_ERRORS - 1)]:
        await session.receive(message)
    assert not client.has_ended()
    await session.receive(BAD)
    assert client.end is end_reasons.ABUSE


def each_look_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor's clock goes on whenever it is looked at."""
    looks = itertools.count()
    monkeypatch.setattr(charged, "_clock", lambda: next(looks))


@pytest.mark.parametrize("op", [{"type": "nonsense"}, {"type": "set", "path": ".a", "value": 1}])
async def test_a_batch_is_charged_also_for_what_is_refused(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    op: dict[str, object],
) -> None:
    """No meter sees what is short, and ten thousand of them are a third of a second."""
    session, client = await rated(nursery, Rate(1e6, 1000))
    each_look_a_second(monkeypatch)
    triode = session._triode
    await session.receive(encode({"type": "batch", "ops": [op] * 50}))
    # One step: no wait came between.
    assert triode.gate.cpu.charged == pytest.approx(STEPS_A_SECOND)
    [[key, _]] = triode.gate.cpu.dearest(9, trio.current_time())
    assert key == client.principal.key


async def test_a_batch_in_a_batch_is_charged_once(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    triode = await start(nursery, {"a": 0})
    each_look_a_second(monkeypatch)
    batch = {"type": "batch", "ops": [{"type": "nonsense"}] * 50}
    items = [(number, batch) for number in range(3)]
    run = Run(triode, Principal(key="somebody", name="somebody", grant=FULL))
    assert [answer async for answer in run.answers(items, as_array=True)]
    assert triode.gate.cpu.charged == pytest.approx(run._bill.steps)
    assert run._bill.steps >= STEPS_A_SECOND
