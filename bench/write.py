"""`write`: how many writes a second: WebSocket commands, NDJSON lines, single PATCH requests beside
a bare ASGI application on the same Hypercorn. With nobody listening, and with 1000 who hear each.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.machine import HERE, Server, build, free_port, load, serving, triode
from bench.peers import TRIODE_SSE
from bench.report import LIMIT, OURS, bars, chart, keep, middle, progress, spread, table

SUBSCRIBERS: Final = (0, 1000)
BARE: Final = "PATCH, a bare ASGI application on Hypercorn"

Run = tuple[str, float, dict[str, Any]]
LINE: Final = '{"type":"set","path":".w","value":%d}'
PATCH: Final = {
    "pub_path": "PATCH /store?path=.w",
    "content_type": "application/json",
    "body": '{"a":1,"b":"two"}',
    "lines": 1,
    "depth": 32,
}
NDJSON: Final = {
    "pub_path": "POST /store/batch",
    "content_type": "application/x-ndjson",
    "body": LINE,
    "lines": 2000,
    "depth": 2,
}


def _triode(server: Server, listen: dict[str, Any], seconds: float) -> Iterator[Run]:
    text = '{"type":"set","path":".w","value":%d,"ref":%d}'
    result = load("write", server, seconds=seconds, depth=64, write_text=text, **listen)
    yield "WebSocket command", result["per_s"], result
    result = load("http", server, seconds=seconds, **NDJSON, **listen)
    yield "NDJSON line", result["lines_per_s"], result


def _single(server: Server, listen: dict[str, Any], seconds: float) -> dict[str, Any]:
    return load("http", server, seconds=seconds, **PATCH, **listen)


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, list[dict[str, Any]]]:
    """Measure, print, keep, draw.

    Triode and the bare application run side by side and are asked in turn, so that a machine whose
    speed changes changes both: the ratio is the median of that of neighbours.
    """
    build()
    seconds, repeats, turns = (1.0, 1, 2) if quick else (2.0, repeats, 3)
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    ratios: list[float] = []

    def note(name: str, rate: float, result: dict[str, Any]) -> None:
        rates[name].append(rate)
        results[name].append(result)

    with progress() as shown:
        steps = 2 * len(SUBSCRIBERS) + sum(map(bool, SUBSCRIBERS)) + turns
        task = shown.add_task("write", total=repeats * steps)
        for _ in range(repeats):
            command, port = triode()
            bare_port = free_port()
            bare_command: list[str | Path] = [
                sys.executable,
                HERE / "peer/bare_asgi.py",
                str(bare_port),
            ]
            with serving(command, port) as server, serving(bare_command, bare_port) as bare:
                for subscribers in SUBSCRIBERS:
                    listen = TRIODE_SSE | {"path": "/events?filter=.w", "clients": subscribers}
                    for name, rate, result in _triode(server, listen, seconds):
                        note(f"{name}, {subscribers} listening", rate, result)
                        shown.advance(task)
                    if subscribers:
                        result = _single(server, listen, seconds)
                        note(f"PATCH, {subscribers} listening", result["per_s"], result)
                        shown.advance(task)
                for _ in range(turns):
                    ours = _single(server, {"clients": 0}, seconds / 2)
                    note("PATCH, 0 listening", ours["per_s"], ours)
                    theirs = _single(bare, {"clients": 0}, seconds / 2)
                    note(BARE, theirs["per_s"], theirs)
                    ratios.append(ours["per_s"] / theirs["per_s"])
                    shown.advance(task)
    table(
        "writes",
        ["", "per second", "CPU", "failed"],
        [
            [
                name,
                spread(rates[name]),
                f"{middle([r['cpu'] for r in runs]):.2f}",
                str(sum(r.get("failed", 0) + r.get("errors", 0) for r in runs)),
            ]
            for name, runs in sorted(results.items(), key=lambda item: _order(item[0]))
        ],
    )
    table("PATCH beside bare Hypercorn", ["", "times"], [["in turn, 1 s each", spread(ratios)]])
    keep("write", results, patch_against_bare=ratios)
    names = sorted(rates, key=_order)
    colors = [LIMIT if name == BARE else OURS for name in names]
    chart("write", lambda f: _draw(f, names, [middle(rates[n]) for n in names], colors))
    return results


def _order(name: str) -> tuple[bool, bool, str]:
    """First with nobody listening, and last what we are measured against."""
    return name == BARE, "1000" in name, name


def _draw(figure: Any, names: list[str], values: list[float], colors: list[str]) -> None:
    axes = figure.subplots()
    bars(axes, names, values, colors, "writes per second")
    axes.set_title("Writes a second, one server core", loc="left", fontsize=11)
