"""`slow`: what frozen clients (connected, never reading) cost the healthy ones: their p99 with 1,
10 and 30 % of the clients frozen, as many times as without them.

A p99 depends on what else the machine does in that second. So one server gets the healthy clients
alone and the same with frozen ones in turn, a few seconds each, and what counts is the median of
the ratios of neighbours. Of each pair the first is now this, now that.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from bench.machine import Server, build, load, serving, triode
from bench.peers import TRIODE_SSE
from bench.report import OURS, OURS_LIGHT, chart, keep, middle, progress, short, spread, table

HEALTHY: Final = 700
SHARES: Final = (0.01, 0.1, 0.3)
RATE: Final = 500

Results = dict[str, list[dict[str, Any]]]


def _once(server: Server, frozen: int, seconds: float) -> dict[str, Any]:
    return load(
        "fanout",
        server,
        clients=HEALTHY + frozen,
        frozen=frozen,
        rate=RATE,
        size=1000,
        seconds=seconds,
        warmup=1.5,  # by then the frozen ones' sockets and queues are full
        **TRIODE_SSE,
    )


def run(*, quick: bool = False, repeats: int = 3) -> Results:
    """Measure, print, keep, draw. The healthy are as many in each case; the frozen come on top."""
    build()
    seconds, pairs = (1.0, 2) if quick else (1.5, repeats + 2)
    results: Results = defaultdict(list)
    ratios: dict[str, list[dict[str, float]]] = defaultdict(list)
    with progress() as shown:
        task = shown.add_task("slow", total=pairs * len(SHARES))
        for number in range(pairs):
            command, port = triode()
            with serving(command, port) as server:
                for share in SHARES:
                    name, frozen = f"{share:.0%}", round(HEALTHY * share / (1 - share))
                    both = [0, frozen] if number % 2 == 0 else [frozen, 0]
                    found = {count: _once(server, count, seconds) for count in both}
                    results["0%"].append(found[0])
                    results[name].append(found[frozen])
                    shown.advance(task)
                    if not all(result["each"]["n"] for result in found.values()):
                        continue  # nothing arrived in time: the machine is too busy for a ratio
                    ratios[name].append(
                        {q: found[frozen]["each"][q] / found[0]["each"][q] for q in ("p50", "p99")}
                    )
    table(
        f"{HEALTHY} healthy clients, {RATE} events/s of 1 KB, and frozen ones",
        ["frozen", "healthy get/s", "all", "p50 ms", "p99 ms", "p50 times",
         "p99 times", "CPU", "MB"],
        [
            [
                share,
                spread([r["per_s"] for r in runs]),
                f"{100 * middle([r['delivered'] / r['expected'] for r in runs]):.0f} %",
                spread([r["each"]["p50"] for r in runs]),
                spread([r["each"]["p99"] for r in runs]),
                _ratio([r["p50"] for r in ratios.get(share, [])]),
                _ratio([r["p99"] for r in ratios.get(share, [])]),
                f"{middle([r['cpu'] for r in runs]):.2f}",
                f"{middle([r['rss_mb'] for r in runs]):.0f}",
            ]
            for share, runs in results.items()
        ],
    )  # fmt: skip
    keep("slow", results, against_none=ratios)
    chart("slow", lambda figure: _draw(figure, ratios))
    return results


def _ratio(values: list[float]) -> str:
    """The median and the middle half: single pairs stray on a machine that does other work."""
    if not values:
        return "-"
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return f"{short(middle(ordered))} ({short(ordered[quarter])} - {short(ordered[-1 - quarter])})"


def _draw(figure: Any, ratios: dict[str, list[dict[str, float]]]) -> None:
    axes = figure.subplots()
    shares = list(ratios)
    for name, color, shift in (("p50", OURS_LIGHT, -0.15), ("p99", OURS, 0.15)):
        values = [[r[name] for r in ratios[share]] for share in shares]
        at = [index + shift for index in range(len(shares))]
        axes.bar(at, [middle(v) for v in values], 0.26, color=color, label=name)
        for x, several in zip(at, values, strict=True):
            axes.plot([x] * len(several), several, ".", color="#868e96", markersize=5)
            axes.annotate(
                short(middle(several)), (x, 0), (0, 6), textcoords="offset points", ha="center",
                color="white" if name == "p99" else "#343a40", fontsize=10,
            )  # fmt: skip
    axes.axhline(1, color="#868e96", linewidth=1)
    axes.axhline(1.2, color="#868e96", linewidth=1, linestyle="--")
    axes.set_xticks(range(len(shares)), [f"{share} frozen" for share in shares])
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("times the latency without frozen clients")
    title = "What frozen clients cost the healthy (dots: pairs; dashed: the aim, 1.2)"
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(frameon=False)
