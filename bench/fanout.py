"""`fanout`: one publisher, N clients: how many deliveries a second, and how late?

Each server is measured in every round, in turn, the order reversed in every other round. In a round
it is started afresh and gets the rates in ascending order; one that delivers less than GIVES_UP of
a rate is spared the higher ones. The last rate, ONE_BY_ONE, is one event at a time: how long until
the last client has it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from bench.machine import build, load, serving
from bench.peers import ALL, Peer
from bench.report import bars, chart, console, keep, middle, progress, short, spread, table

CLIENTS: Final = 1000
ONE_BY_ONE: Final = 20
RATES: Final = (ONE_BY_ONE, 1000, 2000)
GIVES_UP: Final = 0.6

Rounds = dict[str, dict[int, list[dict[str, Any]]]]


def run(
    *,
    quick: bool = False,
    repeats: int = 3,
    clients: int = CLIENTS,
    rates: tuple[int, ...] = RATES,
    size: int = 100,
    seconds: float = 2.0,
    peers: tuple[Peer, ...] = ALL,
) -> Rounds:
    """Measure, print, keep, draw."""
    build()
    seconds, repeats = (1.0, 1) if quick else (seconds, repeats)
    there = [peer for peer in peers if peer.installed]
    for peer in peers:
        if peer not in there:
            console.print(f"[dim]{peer.name}: not installed (python -m bench install)[/dim]")
    results: Rounds = defaultdict(lambda: defaultdict(list))
    failed: dict[str, str] = {}
    with progress() as shown:
        task = shown.add_task("fanout", total=repeats * len(there) * len(rates))
        for number in range(repeats):
            for peer in there if number % 2 == 0 else there[::-1]:
                shown.update(task, description=f"fanout {peer.name}")
                try:
                    _round(peer, results[peer.name], clients, rates, size, seconds)
                except RuntimeError as error:
                    failed[peer.name] = str(error)
                shown.advance(task, len(rates))
    for name, why in failed.items():
        console.print(f"[red]{name}: {why}[/red]")
    _show(results, clients, rates, size)
    keep("fanout", results, clients=clients, size=size, seconds=seconds, failed=failed)
    chart("fanout", lambda figure: _draw(figure, results, there, clients), size=(9.6, 4.6))
    return results


def _round(
    peer: Peer,
    results: dict[int, list[dict[str, Any]]],
    clients: int,
    rates: tuple[int, ...],
    size: int,
    seconds: float,
) -> None:
    command, port = peer.start()
    with serving(command, port, env=peer.env) as server:
        for rate in rates:
            result = load(
                "fanout",
                server,
                clients=clients,
                rate=rate,
                size=size,
                seconds=seconds,
                drain=1.5,
                **peer.options,
            )
            results[rate].append(result)
            if result["in_window"] < GIVES_UP * result["expected"] and rate > ONE_BY_ONE:
                return


def _show(results: Rounds, clients: int, rates: tuple[int, ...], size: int) -> None:
    for rate in rates:
        rows = []
        for name, by_rate in results.items():
            runs = by_rate.get(rate)
            if not runs:
                rows.append([name, "-", "", "", "", "", "", ""])
                continue
            rows.append(
                [
                    name,
                    spread([r["per_s"] for r in runs]),
                    f"{100 * middle([r['delivered'] / r['expected'] for r in runs]):.0f} %",
                    spread([r["each"]["p50"] for r in runs if r["each"]["n"]]),
                    spread([r["each"]["p99"] for r in runs if r["each"]["n"]]),
                    spread([r["last"]["p50"] for r in runs if r["last"]["n"]]),
                    f"{middle([r['cpu'] for r in runs]):.2f}",
                    f"{middle([r['rss_mb'] for r in runs]):.0f}",
                ]
            )
        table(
            f"{clients} clients, {size} bytes, {rate} events/s = {short(rate * clients)}/s offered",
            ["server", "delivered/s", "all", "p50 ms", "p99 ms", "last has it ms", "CPU", "MB"],
            rows,
        )


def _draw(figure: Any, results: Rounds, peers: list[Peer], clients: int) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    measured = [peer for peer in peers if results[peer.name]]

    def best(peer: Peer) -> float:
        runs = results[peer.name]
        return max((middle([r["per_s"] for r in runs[rate]]) for rate in runs), default=0.0)

    ranked = sorted(measured, key=best, reverse=True)
    colors = [peer.color for peer in ranked]
    bars(left, [p.name for p in ranked], [best(p) for p in ranked], colors, "deliveries/s")
    left.set_title(f"Most delivered per second, {clients} clients", loc="left", fontsize=11)
    with_all = [p for p in measured if any(r["last"]["n"] for r in results[p.name][ONE_BY_ONE])]

    def last(peer: Peer) -> float:
        return middle([r["last"]["p50"] for r in results[peer.name][ONE_BY_ONE] if r["last"]["n"]])

    ranked = sorted(with_all, key=last)
    colors = [peer.color for peer in ranked]
    bars(right, [p.name for p in ranked], [last(p) for p in ranked], colors, "milliseconds")
    right.set_xscale("log")
    right.set_title("One event: the last client has it after", loc="left", fontsize=11)
