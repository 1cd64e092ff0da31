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
from bench.pairs import Ratios, Results, draw, ratio_of, show
from bench.peers import TRIODE_SSE
from bench.report import chart, keep, progress

HEALTHY: Final = 700
SHARES: Final = (0.01, 0.1, 0.3)
RATE: Final = 500


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
    ratios: Ratios = defaultdict(list)
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
                    ratio = ratio_of(found[frozen], found[0])
                    if ratio is not None:
                        ratios[name].append(ratio)
    show(
        f"{HEALTHY} healthy clients, {RATE} events/s of 1 KB, and frozen ones",
        "frozen",
        results,
        ratios,
    )
    keep("slow", results, against_none=ratios)
    shown_as = {f"{share} frozen": each for share, each in ratios.items()}
    title = "What frozen clients cost the healthy"
    chart("slow", lambda fig: draw(fig, shown_as, whom="frozen clients", title=title, aim=1.2))
    return results
