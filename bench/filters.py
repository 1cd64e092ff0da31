"""`filters`: the Go seed's benchmark. N clients, client i filters `.users[i].status`; one operation
is N changes, each matched, encoded and handed to the one client that it concerns.

In this process, with the server's own store and hub and its flusher running; only the socket is
missing: a lane that takes all. Times are CPU times of the one thread there is, so that a busy
machine does not count. The variants: conditions, wildcards, and 100 filters that N / 100
clients each share, so that every change concerns 1 % of the clients.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

import trio

from bench.machine import SERVER_CORE
from bench.report import BAD, OURS, OURS_LIGHT, chart, keep, middle, progress, spread, table
from triode.app.config.settings import Settings
from triode.app.delivery.hub import Hub
from triode.app.runtime.metrics import Metrics
from triode.limits.grant import FULL
from triode.limits.policy import Policy
from triode.limits.principal import Principal
from triode.store.operation import Set
from triode.store.path import Path
from triode.store.store import Store

SIZES: Final = (10, 100, 1000, 10_000)
WHO: Final = Principal(key="bench", name="bench", grant=FULL)


class Sink:
    """A lane whose socket takes everything."""

    name = "native"
    deflate_from = 0

    def __init__(self) -> None:
        self.writes = 0
        self.send_now: Callable[[bytes], int] | None = self._send

    def _send(self, data: bytes) -> int:
        self.writes += 1
        return len(data)

    async def send_all(self, data: bytes) -> None:
        raise AssertionError("this lane is never slow")

    def wake(self) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError("this lane is never broken")


def _own(n: int) -> tuple[Any, list[str], list[Path]]:
    root = {"users": [{"name": f"user {i}", "status": "off"} for i in range(n)]}
    paths: list[Path] = [("users", i, "status") for i in range(n)]
    return root, [f".users[{i}].status" for i in range(n)], paths


def _conditions(n: int) -> tuple[Any, list[str], list[Path]]:
    root = {"orders": [{"trader": f"t{i}", "quantity": 0} for i in range(n)]}
    paths: list[Path] = [("orders", i, "quantity") for i in range(n)]
    return root, [f".orders[trader=t{i}]" for i in range(n)], paths


def _wildcards(n: int) -> tuple[Any, list[str], list[Path]]:
    root = {"users": [{f"f{i}": 0 for i in range(n)}]}
    paths: list[Path] = [("users", 0, f"f{i}") for i in range(n)]
    return root, [f".users[*].f{i}" for i in range(n)], paths


def _shared(n: int) -> tuple[Any, list[str], list[Path]]:
    kinds = min(n, 100)
    root = {"users": [{"status": "off"} for _ in range(kinds)]}
    paths: list[Path] = [("users", i % kinds, "status") for i in range(min(n, 1000))]
    return root, [f".users[{i % kinds}].status" for i in range(n)], paths


KINDS: Final = {
    "own filter": _own,
    "own condition": _conditions,
    "own wildcard": _wildcards,
    "1 % match": _shared,
}


async def _measure(make: Callable[[int], Any], n: int, repeats: int) -> list[dict[str, float]]:
    root, filters, paths = make(n)
    settings = Settings()
    store = Store(root, epoch="bench0", history_items=10_000, history_bytes=64 << 20)
    hub = Hub(settings, store, Metrics())
    sinks = [Sink() for _ in filters]
    for sink, text in zip(sinks, filters, strict=True):
        client = hub.open("ws", sink, WHO, "127.0.0.1", {})
        hub.subscribe(client, [(text, Policy.DROP_NEWEST)])
    operations = max(1, min(200, 2000 // len(paths)))
    results: list[dict[str, float]] = []
    async with trio.open_nursery() as nursery:  # holds the flusher, ends when we are done
        await nursery.start(hub.run)
        for number in range(repeats + 1):
            before = due = hub.metrics.events_total
            started = time.process_time()
            for operation in range(operations):
                for index, path in enumerate(paths):
                    value = f"{number}.{operation}.{index}"
                    hub.deliver(store.submit(Set(path, value), time_ms=1_700_000_000_000))
                    await hub.flusher.room()
                due += len(paths) * n // _kinds(n, make)
                while hub.metrics.events_total < due:
                    await trio.lowlevel.checkpoint()
            took_s = (time.process_time() - started) / operations
            delivered = (hub.metrics.events_total - before) / operations
            if number:  # the first is a warm-up
                results.append(
                    {
                        "ms": took_s * 1e3,
                        "us_per_change": took_s * 1e6 / len(paths),
                        "us_per_delivery": took_s * 1e6 / delivered,
                    }
                )
        nursery.cancel_scope.cancel()
    return results


def _kinds(n: int, make: Callable[[int], Any]) -> int:
    return min(n, 100) if make is _shared else n


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, Any]:
    """Measure, print, keep, draw."""
    sizes = SIZES[:3] if quick else SIZES
    repeats = 2 if quick else max(repeats, 5)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CORE})
    results: dict[str, dict[int, list[dict[str, float]]]] = {}
    try:
        with progress() as shown:
            task = shown.add_task("filters", total=len(KINDS) * len(sizes))
            for name, make in KINDS.items():
                results[name] = {}
                for n in sizes:
                    shown.update(task, description=f"filters {name} {n}")
                    results[name][n] = trio.run(_measure, make, n, repeats)
                    shown.advance(task)
    finally:
        os.sched_setaffinity(0, cores)
    rows = [
        [
            f"{name}, {n} clients",
            spread([r["ms"] for r in runs]),
            spread([r["us_per_change"] for r in runs]),
            spread([r["us_per_delivery"] for r in runs]),
        ]
        for name, by_size in results.items()
        for n, runs in by_size.items()
    ]
    table(
        "N clients, N changes (1 % match: 1000 at most): match, encode, hand over",
        ["", "ms per operation", "us per change", "us per delivery"],
        rows,
    )
    keep("filters", results)
    chart("filters", lambda figure: _draw(figure, results))
    return results


def _draw(figure: Any, results: dict[str, dict[int, list[dict[str, float]]]]) -> None:
    axes = figure.subplots()
    colors = [OURS, OURS_LIGHT, BAD, "#868e96"]
    highest = 0.0
    for (name, by_size), color in zip(results.items(), colors, strict=True):
        per = "us_per_delivery" if name == "1 % match" else "us_per_change"
        label = f"{name}, per delivery" if name == "1 % match" else name
        values = [middle([r[per] for r in runs]) for runs in by_size.values()]
        highest = max(highest, *values)
        low = [min(r[per] for r in runs) for runs in by_size.values()]
        high = [max(r[per] for r in runs) for runs in by_size.values()]
        axes.plot(list(by_size), values, marker="o", color=color, label=label)
        axes.fill_between(list(by_size), low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    # A single slow repeat (the JSON has it) must not flatten the medians.
    axes.set_ylim(0, 2 * highest)
    axes.set_xlabel("clients, each with a filter of its own")
    axes.set_ylabel("microseconds per change")
    axes.set_title(
        "A change costs the same however many filters there are", loc="left", fontsize=11
    )
    axes.legend(frameon=False, fontsize=9)
