"""`connect`: 3000 connections in batches of 50 (the Go seed's test), one by one, 10 000 that are
held idle, and a storm: all lost, all back at once with `Last-Event-ID`.

Two latencies, both from `connect()` to the first byte of the answer. One by one it is what
accepting costs. In a batch the 50 call `connect()` at once and the server has one core, so the
median client also waits for the 25 before it: it says how the rate looks from inside, no more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from bench.machine import build, load, serving, triode
from bench.peers import TRIODE_SSE, TRIODE_WS
from bench.report import OURS, OURS_LIGHT, bars, chart, keep, middle, progress, spread, table

LANES: Final = {"SSE": TRIODE_SSE, "WebSocket": TRIODE_WS}
CONNECTIONS: Final = 3000
IDLE: Final = 10_000
MISSED: Final = 20

Results = dict[str, list[dict[str, Any]]]


def _round(results: Results, lane: str, options: dict[str, Any], idle: int, hold_s: float) -> None:
    command, port = triode()
    with serving(command, port) as server:
        batches = load(
            "connect", server, clients=CONNECTIONS, batch=50, seconds=0, wait_event=True, **options
        )
        results[f"{lane} batches"].append(batches)
        one = load("connect", server, clients=500, batch=1, seconds=0, wait_event=True, **options)
        results[f"{lane} one by one"].append(one)
    command, port = triode()
    with serving(command, port) as server:
        server.sample("none")
        empty_mb = server.at["none"][2]
        held = load("connect", server, clients=idle, batch=50, seconds=hold_s, **options)
        usage = server.usage("hold", "held")
        held |= {
            "cpu": usage.cpu,
            "rss_mb": usage.rss_mb,
            "kb_each": (usage.rss_mb - empty_mb) * 1e3 / idle,
        }
        results[f"{lane} idle"].append(held)
    if lane == "SSE":
        command, port = triode()
        with serving(command, port) as server:
            storm = load(
                "storm", server, clients=CONNECTIONS, rate=MISSED, batch=1000, drain=10, **options
            )
            results["storm"].append(storm)


def run(*, quick: bool = False, repeats: int = 3) -> Results:
    """Measure, print, keep, draw."""
    build()
    idle, hold_s, repeats = (2000, 1.0, 1) if quick else (IDLE, 5.0, repeats)
    results: Results = defaultdict(list)
    with progress() as shown:
        task = shown.add_task("connect", total=repeats * len(LANES))
        for _ in range(repeats):
            for lane, options in LANES.items():
                _round(results, lane, options, idle, hold_s)
                shown.advance(task)
    _show(results, idle)
    keep("connect", results, idle=idle)
    chart("connect", lambda figure: _draw(figure, results, idle), size=(9.6, 2.8))
    return results


def _show(results: Results, idle: int) -> None:
    def column(name: str, pick: Any) -> str:
        return spread([pick(r) for r in results[name]])

    table(
        f"{CONNECTIONS} connections",
        [
            "",
            "success",
            "per second",
            "TCP ms p50",
            "first byte ms p50",
            "p99",
            "first event ms p50",
        ],
        [
            [
                name.replace("batches", "50 at once"),
                f"{100 * middle([r['connected'] / r['clients'] for r in results[name]]):.1f} %",
                column(name, lambda r: r["per_s"]),
                column(name, lambda r: r["tcp"]["p50"]),
                column(name, lambda r: r["first_byte"]["p50"]),
                column(name, lambda r: r["first_byte"]["p99"]),
                column(name, lambda r: r["first_event"]["p50"]),
            ]
            for lane in LANES
            for name in (f"{lane} one by one", f"{lane} batches")
        ],
    )
    table(
        f"{idle} idle clients",
        ["", "held", "whole process MB", "KB a client", "CPU %"],
        [
            [
                lane,
                str(round(middle([r["held"] for r in results[f"{lane} idle"]]))),
                column(f"{lane} idle", lambda r: r["rss_mb"]),
                column(f"{lane} idle", lambda r: r["kb_each"]),
                column(f"{lane} idle", lambda r: r["cpu"] * 100),
            ]
            for lane in LANES
        ],
    )
    table(
        f"storm: {CONNECTIONS} come back at once, {MISSED} events missed by each",
        ["", "clients/s", "all have all after s", "resumed of due", "missing", "twice"],
        [
            [
                "SSE",
                column("storm", lambda r: r["per_s"]),
                column("storm", lambda r: r["seconds"]),
                column("storm", lambda r: r["resumed"] / r["expected"]),
                str(sum(r["missing"] for r in results["storm"])),
                str(sum(r["repeated"] for r in results["storm"])),
            ]
        ],
    )


def _draw(figure: Any, results: Results, idle: int) -> None:
    rate, latency, memory = figure.subplots(1, 3)
    lanes, colors = list(LANES), [OURS, OURS_LIGHT]

    def of(name: str, pick: Any) -> list[float]:
        return [middle([pick(r) for r in results[f"{lane} {name}"]]) for lane in lanes]

    bars(rate, lanes, of("batches", lambda r: r["per_s"]), colors, "connections per second")
    rate.set_title(f"{CONNECTIONS}, 50 at a time", loc="left", fontsize=11)
    first = of("one by one", lambda r: r["first_byte"]["p50"])
    bars(latency, lanes, first, colors, "connect() to first byte, ms, p50")
    latency.set_title("One by one", loc="left", fontsize=11)
    bars(memory, lanes, of("idle", lambda r: r["rss_mb"]), colors, "MB resident, whole process")
    memory.set_title(f"{idle} idle clients", loc="left", fontsize=11)
    for axes in (latency, memory):
        axes.tick_params(labelleft=False)
