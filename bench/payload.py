"""`payload`: messages of 100 B, 1 KB and 10 KB to 100 and 1000 clients (NanoSocket's table): how
much is delivered when much more is offered than one core can send. And idle clients: memory, CPU.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from bench.machine import build, load, serving, triode
from bench.peers import TRIODE_WS
from bench.report import OURS, OURS_LIGHT, chart, keep, middle, progress, spread, table

SIZES: Final = {100: 2000, 1000: 1000, 10_000: 100}  # bytes: events a second that are offered
CLIENTS: Final = (100, 1000)
IDLE: Final = (1000, 10_000)

Results = dict[str, list[dict[str, Any]]]


def run(*, quick: bool = False, repeats: int = 3) -> Results:
    """Measure, print, keep, draw."""
    build()
    seconds, repeats = (1.0, 1) if quick else (2.0, min(repeats, 2))
    results: Results = defaultdict(list)
    with progress() as shown:
        task = shown.add_task("payload", total=repeats * (len(SIZES) * len(CLIENTS) + len(IDLE)))
        for _ in range(repeats):
            for clients in CLIENTS:
                for size, rate in SIZES.items():
                    command, port = triode()
                    with serving(command, port) as server:
                        result = load(
                            "fanout",
                            server,
                            clients=clients,
                            rate=rate,
                            size=size,
                            seconds=seconds,
                            **TRIODE_WS,
                        )
                    results[f"{clients} clients, {size} B"].append(result)
                    shown.advance(task)
            for clients in IDLE[: 1 if quick else 2]:
                _idle(results, clients, seconds)
                shown.advance(task)
    rows = [
        [
            name,
            spread([r["per_s"] for r in runs]),
            f"{100 * middle([r['delivered'] / r['expected'] for r in runs]):.0f} %",
            spread([r["per_s"] * r["bytes"] / max(1, r["delivered"]) / 1e6 for r in runs]),
            spread([r["each"]["p50"] for r in runs]),
            spread([r["each"]["p99"] for r in runs]),
            f"{middle([r['cpu'] for r in runs]):.2f}",
        ]
        for name, runs in results.items()
        if "idle" not in name
    ]
    table("payload, WebSocket", ["", "messages/s", "all", "MB/s", "p50 ms", "p99 ms", "CPU"], rows)
    rows = [
        [name, spread([r["kb_each"] for r in runs]), spread([r["cpu"] * 100 for r in runs])]
        for name, runs in results.items()
        if "idle" in name
    ]
    table("idle", ["", "KB a client", "CPU %"], rows)
    keep("payload", results)
    chart("payload", lambda figure: _draw(figure, results))
    return results


def _idle(results: Results, clients: int, seconds: float) -> None:
    command, port = triode()
    with serving(command, port) as server:
        server.sample("none")
        empty_mb = server.at["none"][2]
        held = load("connect", server, clients=clients, seconds=seconds, **TRIODE_WS)
        usage = server.usage("hold", "held")
        held |= {"cpu": usage.cpu, "kb_each": (usage.rss_mb - empty_mb) * 1e3 / clients}
        results[f"{clients} idle"].append(held)


def _draw(figure: Any, results: Results) -> None:
    axes = figure.subplots()
    for clients, color, shift in zip(CLIENTS, (OURS_LIGHT, OURS), (-0.2, 0.2), strict=True):
        values = [
            middle([r["per_s"] for r in results[f"{clients} clients, {size} B"]]) for size in SIZES
        ]
        at = [index + shift for index in range(len(SIZES))]
        axes.bar(at, values, 0.38, color=color, label=f"{clients} clients")
    axes.set_xticks(range(len(SIZES)), [f"{s} B, {r}/s offered" for s, r in SIZES.items()])
    axes.set_yscale("log")
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("messages delivered per second")
    axes.set_title("Messages by size", loc="left", fontsize=11)
    axes.legend(frameon=False)
