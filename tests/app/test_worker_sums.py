"""The numbers of several workers as those of one server."""

from __future__ import annotations

from typing import Any

from tests.app.web import serving
from triode.app.service.stats import Stats
from triode.app.service.worker_sums import added


async def bodies(count: int) -> list[dict[str, Any]]:
    """Of one server, as if there were several."""
    async with serving({"a": 1}) as web:
        web.triode.metrics.ends["slow"] += 2
        own = [await Stats(web.triode).own("all", 10) for _ in range(count)]
    return [each | {"pid": 100 + number} for number, each in enumerate(own)]


async def test_counts_are_added_up_and_what_all_have_is_not() -> None:
    one, two = await bodies(2)
    one["gauges"] |= {"clients": 3, "loop_lag_seconds": 0.5, "log_live": 1, "log_seq": 7}
    two["gauges"] |= {"clients": 4, "loop_lag_seconds": 0.1, "log_live": 0, "log_seq": 9}
    two["gauges"] |= {"log_waiting": 2, "log_commits_total": 5}
    one["gauges"] |= {"log_waiting": 1, "log_commits_total": 6}
    told = added(1, {1: one, 2: two}, 2, 3, 10)
    gauges = told["gauges"]
    assert (gauges["clients"], gauges["log_waiting"], gauges["log_commits_total"]) == (7, 3, 11)
    assert (gauges["loop_lag_seconds"], gauges["log_live"], gauges["log_seq"]) == (0.5, 0, 9)
    assert gauges["document_bytes"] == one["gauges"]["document_bytes"]
    assert told["counters"]["ends_total"]["slow"] == 4
    assert told["rates"]["window_s"] == one["rates"]["window_s"]
    held = told["memory"]["accounts"]["history"]["bound"]
    assert held == 2 * one["memory"]["accounts"]["history"]["bound"]
    assert (gauges["workers"], gauges["workers_missing"], gauges["worker"]) == (2, 0, 1)
    assert gauges["worker_deaths_total"] == told["workers"]["deaths"] == 3


async def test_one_that_did_not_answer_is_named() -> None:
    (one,) = await bodies(1)
    told = added(2, {2: one}, 3, 0, 10)
    assert told["workers"]["missing"] == [1, 3]
    assert [each["worker"] for each in told["workers"]["each"]] == [2]
    assert told["gauges"]["workers_missing"] == 2


async def test_clients_furthest_behind_come_first() -> None:
    one, two = await bodies(2)
    one["clients"] = [{"client": "a", "queued_bytes": 5, "dropped": 0}]
    two["clients"] = [
        {"client": "b", "queued_bytes": 9, "dropped": 0},
        {"client": "c", "queued_bytes": 0, "dropped": 1},
    ]
    told = added(1, {1: one, 2: two}, 2, 0, 2)
    assert [client["client"] for client in told["clients"]] == ["b", "a"]
