"""Metrics: one list of counters, told the same everywhere, in formats strict parsers accept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import trio
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from trio.testing import MockClock

from triode.app.runtime.metrics import FAMILIES, Gauge, Metrics, exposition, registry, watch_loop

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def counted() -> Metrics:
    metrics = Metrics()
    metrics.events_total = 7
    metrics.bytes_out = 2**53
    metrics.connections_total["sse"] += 3
    metrics.drops["latest", "queue_full"] += 2
    metrics.drops["drop-oldest", 'od"d\nreason\\'] += 1
    metrics.ends["slow"] += 1
    metrics.refused[429] += 5
    return metrics


def gauges() -> Iterator[Gauge]:
    yield Gauge("clients", "Clients connected", 3)
    yield Gauge("cpu_seconds_total", "Processor time", 1.5)


def samples(families: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_attribute_that_counts_is_told() -> None:
    told = {family.attribute for family in FAMILIES}
    kept = {name for name in vars(Metrics()) if not name.startswith("_")}
    assert kept - told == {"loop_lag_s", "large_bodies", "listener"}


def test_prometheus_text_parses_and_holds_every_counter() -> None:
    metrics = counted()
    text, kind = exposition(registry(metrics.as_json, gauges), "")
    assert kind.startswith("text/plain; version=0.0.4")
    families = list(parse_prometheus(text.decode()))
    assert all(family.name.startswith("triode_") for family in families)
    found = samples(families)
    assert found["triode_events_total", ()] == 7
    assert found["triode_clients", ()] == 3
    assert found["triode_cpu_seconds_total", ()] == 1.5
    drops = (("policy", "drop-oldest"), ("reason", 'od"d\nreason\\'))
    assert found["triode_drops_total", drops] == 1
    assert found["triode_ends_total", (("reason", "slow"),)] == 1
    assert found["triode_refused_total", (("status", "429"),)] == 5
    assert found["triode_connections_total", (("transport", "ws"),)] == 0


def test_openmetrics_text_passes_the_strict_parser() -> None:
    text, kind = exposition(registry(counted().as_json, gauges), OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    found = samples(parse_openmetrics(text.decode()))
    assert found["triode_bytes_out_total", ()] == 2**53
    plain, _ = exposition(registry(counted().as_json, gauges), "")
    assert found == samples(parse_prometheus(plain.decode()))


def test_counters_never_end_in_anything_but_total() -> None:
    text, _ = exposition(registry(counted().as_json, gauges), "")
    for family in parse_prometheus(text.decode()):
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_json_nests_labels() -> None:
    told = counted().as_json()
    assert told["events_total"] == 7
    assert told["drops_total"]["latest"] == {"queue_full": 2}
    assert told["connections_total"] == {"sse": 3, "ws": 0}
    assert told["refused_total"] == {"429": 5}


def test_rates_look_back_ten_seconds() -> None:
    metrics = Metrics()
    assert metrics.rates(0.0)["events_total"] == 0
    for second in range(31):
        metrics.events_total = 100 * second
        metrics.sample(float(second))
    assert metrics.rates(30.0)["events_total"] == 100
    metrics.events_total += 1000
    assert metrics.rates(30.0)["events_total"] == 200
    for second in range(31, 45):
        metrics.sample(float(second))
    assert metrics.rates(44.0)["events_total"] == 0


def test_samples_are_bounded_however_often_they_are_taken() -> None:
    metrics = Metrics()
    for tick in range(100_000):
        metrics.sample(tick / 1000)
    assert len(metrics._samples) < 30


async def test_the_watch_measures_the_lag_of_the_loop(autojump_clock: MockClock) -> None:
    metrics = Metrics()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_loop, metrics)
        await trio.sleep(5.5)
        metrics.events_total = 55
        assert metrics.loop_lag_s == 0
        assert metrics.rates(trio.current_time())["events_total"] == 10
        autojump_clock.jump(3)  # as if something had held the loop for 3 s
        await trio.testing.wait_all_tasks_blocked()
        assert 2 < metrics.loop_lag_s < 3
        nursery.cancel_scope.cancel()
