"""Who keeps costing more than its share is refused for a while, and shown in `/stats`."""

from __future__ import annotations

import pytest
import trio

from tests.app.lanes import FakeLane
from triode.app.config.settings import Settings
from triode.app.service import filter_costs
from triode.app.service.filter_parsing import readable
from triode.app.service.reading import affordable
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.limits.cpu_share import STEPS_A_SECOND
from triode.limits.grant import FULL
from triode.limits.principal import OWNER, Principal
from triode.store.filter import parse_filter
from triode.store.operation import Set

DEAR = Principal("token:dear", "dear", FULL)
OTHER = Principal("token:other", "other", FULL)


def owed(triode: Triode) -> dict[str, float]:
    return dict(triode.gate.cpu.dearest(10, trio.current_time()))


async def test_a_read_that_takes_turns_is_charged_to_who_asks(autojump_clock: object) -> None:
    triode = Triode(Settings(), {"a": [{"x": n} for n in range(5000)]})
    filter = parse_filter(".a[x>-1]")
    await affordable(triode, DEAR, [filter], triode.store.document.root)
    assert owed(triode) == {"token:dear": pytest.approx(5003 / STEPS_A_SECOND, rel=0.01)}


async def test_a_refused_read_is_charged_too(autojump_clock: object) -> None:
    triode = Triode(Settings(max_work=3000), {"a": [{"x": n} for n in range(5000)]})
    with pytest.raises(Refusal):
        await affordable(triode, DEAR, [parse_filter(".a[x>-1]")], triode.store.document.root)
    assert owed(triode)["token:dear"] >= 3000 / STEPS_A_SECOND


async def test_long_writes_and_long_filters_are_charged(autojump_clock: object) -> None:
    triode = Triode(Settings(), {})
    await triode.write(Set(("a",), [[n] for n in range(5000)]), DEAR)
    await readable(triode.gate, OTHER, ["$['cpu']" + "['a'" + ",'a'" * 950 + "]"])
    assert owed(triode).keys() == {"token:dear", "token:other"}
    assert owed(triode)["token:dear"] > 5000 / STEPS_A_SECOND


async def test_what_is_short_is_not_counted(autojump_clock: object) -> None:
    triode = Triode(Settings(), {"a": 1})
    await triode.write(Set(("a",), 2), DEAR)
    await readable(triode.gate, DEAR, [".a", "$.b"])
    assert owed(triode) == {}


async def test_over_its_share_somebody_is_refused_until_it_is_paid(autojump_clock: object) -> None:
    triode = Triode(Settings(cpu_share_s=20.0))
    triode.gate.charge_work(DEAR, 25 * STEPS_A_SECOND)
    triode.gate.check_share(OTHER)
    with pytest.raises(Refusal) as caught:
        triode.gate.check_share(DEAR, {"X-Field": "kept"})
    refusal = caught.value
    assert refusal.status == 429
    retry_s = int(refusal.headers["Retry-After"])
    assert 15 <= retry_s < 20
    assert refusal.extra["retry_after"] == retry_s
    assert refusal.headers["X-Field"] == "kept"
    assert triode.metrics.over_share == 1
    await trio.sleep(retry_s)
    triode.gate.check_share(DEAR)


async def test_without_a_share_nobody_is_refused(autojump_clock: object) -> None:
    triode = Triode(Settings(cpu_share_s=0.0))
    triode.gate.charge_work(DEAR, 10**12)
    triode.gate.check_share(DEAR)


def watch(triode: Triode, principal: Principal, text: str) -> None:
    client = triode.hub.open("ws", FakeLane(), principal, "", {})
    triode.hub.subscribe(client, [(parse_filter(text), client.policy)])


async def test_what_filters_cost_at_writes_is_charged_to_who_watches(
    autojump_clock: object,
) -> None:
    triode = Triode(Settings(match_work=1_000_000), {"a": [{"x": n} for n in range(1000)], "b": 0})
    for principal in (DEAR, DEAR, DEAR, OTHER):
        watch(triode, principal, "$.a[?@.x>5]")
    watch(triode, OWNER, ".b")
    filter_costs.settle(triode)
    for number in range(10):
        triode.write_nowait(Set(("a", 0, "x"), number))
    triode.write_nowait(Set(("b",), 1))
    filter_costs.settle(triode)
    first = owed(triode)
    assert first.keys() == {"token:dear", "token:other"}
    assert first["token:dear"] == pytest.approx(3 * first["token:other"])
    assert sum(first.values()) > 10 * 3000 / STEPS_A_SECOND
    filter_costs.settle(triode)
    assert owed(triode) == first, "nothing is charged twice"
    shown = filter_costs.dearest(triode, trio.current_time())
    assert [each["filter"] for each in shown["filters"]] == ["$.a[?@.x>5]"]
    assert [each["key"] for each in shown["principals"]] == ["token:dear", "token:other"]


async def test_local_filters_are_counted_too(autojump_clock: object) -> None:
    triode = Triode(Settings(match_work=1_000_000), {"a": []})
    watch(triode, DEAR, "..x")
    triode.write_nowait(Set(("a",), [{"x": n} for n in range(1000)]))
    filter_costs.settle(triode)
    assert owed(triode)["token:dear"] > 1000 / STEPS_A_SECOND
