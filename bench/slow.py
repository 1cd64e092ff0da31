"""`slow`: what frozen clients (connected, never reading) cost the healthy ones: their p99 with 0,
1, 10 and 30 % of the clients frozen.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from bench.machine import build, load, serving, triode
from bench.peers import TRIODE_SSE
from bench.report import BAD, OURS, OURS_LIGHT, chart, keep, middle, progress, spread, table

HEALTHY: Final = 700
SHARES: Final = (0.0, 0.01, 0.1, 0.3)
RATE: Final = 500


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, list[dict[str, Any]]]:
    """Measure, print, keep, draw. The healthy are as many in each case; the frozen come on top."""
    build()
    seconds, repeats = (1.5, 1) if quick else (4.0, repeats)
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with progress() as shown:
        task = shown.add_task("slow", total=repeats * len(SHARES))
        for number in range(repeats):
            for share in SHARES if number % 2 == 0 else SHARES[::-1]:
                command, port = triode()
                frozen = round(HEALTHY * share / (1 - share))
                with serving(command, port) as server:
                    result = load(
                        "fanout",
                        server,
                        clients=HEALTHY + frozen,
                        frozen=frozen,
                        rate=RATE,
                        size=1000,
                        seconds=seconds,
                        warmup=2.0,  # by then the frozen ones' sockets are full
                        **TRIODE_SSE,
                    )
                results[f"{share:.0%}"].append(result)
                shown.advance(task)
    base = middle([r["each"]["p99"] for r in results["0%"]])
    table(
        f"{HEALTHY} healthy clients, {RATE} events/s of 1 KB, and frozen ones",
        ["frozen", "healthy get/s", "all", "p50 ms", "p99 ms", "p99 against none", "CPU", "MB"],
        [
            [
                share,
                spread([r["per_s"] for r in runs]),
                f"{100 * middle([r['delivered'] / r['expected'] for r in runs]):.0f} %",
                spread([r["each"]["p50"] for r in runs]),
                spread([r["each"]["p99"] for r in runs]),
                f"{middle([r['each']['p99'] for r in runs]) / base:.2f}",
                f"{middle([r['cpu'] for r in runs]):.2f}",
                f"{middle([r['rss_mb'] for r in runs]):.0f}",
            ]
            for share, runs in sorted(results.items(), key=lambda item: int(item[0][:-1]))
        ],
    )
    keep("slow", results)
    chart("slow", lambda figure: _draw(figure, results))
    return results


def _draw(figure: Any, results: dict[str, list[dict[str, Any]]]) -> None:
    axes = figure.subplots()
    shares = [f"{share:.0%}" for share in SHARES]
    for name, color, shift in (("p50", OURS_LIGHT, -0.2), ("p99", OURS, 0.2)):
        values = [middle([r["each"][name] for r in results[share]]) for share in shares]
        low = [
            v - min(r["each"][name] for r in results[s])
            for v, s in zip(values, shares, strict=True)
        ]
        high = [
            max(r["each"][name] for r in results[s]) - v
            for v, s in zip(values, shares, strict=True)
        ]
        at = [index + shift for index in range(len(shares))]
        axes.bar(at, values, 0.38, color=color, label=name, yerr=[low, high], ecolor=BAD, capsize=3)
    axes.set_xticks(range(len(shares)), [f"{share} frozen" for share in shares])
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("milliseconds, healthy clients")
    axes.set_title("What frozen clients cost the others", loc="left", fontsize=11)
    axes.legend(frameon=False)
