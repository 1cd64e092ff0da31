"""`write`: how many writes a second: WebSocket commands, NDJSON lines, single PATCH requests beside
a bare ASGI application on the same Hypercorn. With nobody listening, and with 1000 who hear each.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from bench.machine import HERE, build, free_port, load, serving, triode
from bench.peers import TRIODE_SSE, VENV
from bench.report import LIMIT, OURS, bars, chart, keep, middle, progress, spread, table

SUBSCRIBERS: Final = (0, 1000)
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


def _triode(subscribers: int, seconds: float) -> dict[str, tuple[float, dict[str, Any]]]:
    listen = TRIODE_SSE | {"path": "/events?filter=.w", "clients": subscribers}
    command, port = triode()
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    with serving(command, port) as server:
        result = load(
            "write",
            server,
            seconds=seconds,
            depth=64,
            write_text='{"type":"set","path":".w","value":%d,"ref":%d}',
            **listen,
        )
        found["WebSocket command"] = result["per_s"], result
        result = load("http", server, seconds=seconds, **NDJSON, **listen)
        found["NDJSON line"] = result["lines_per_s"], result
        result = load("http", server, seconds=seconds, **PATCH, **listen)
        found["PATCH request"] = result["per_s"], result
    return found


def _bare(seconds: float) -> tuple[float, dict[str, Any]]:
    port = free_port()
    with serving([VENV / "bin/python", HERE / "peer/bare_asgi.py", str(port)], port) as server:
        result = load("http", server, seconds=seconds, clients=0, **PATCH)
    return result["per_s"], result


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, list[dict[str, Any]]]:
    """Measure, print, keep, draw."""
    build()
    seconds, repeats = (1.0, 1) if quick else (2.5, repeats)
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    with progress() as shown:
        task = shown.add_task("write", total=repeats * (len(SUBSCRIBERS) + 1))
        for _ in range(repeats):
            for subscribers in SUBSCRIBERS:
                for name, (rate, result) in _triode(subscribers, seconds).items():
                    rates[f"{name}, {subscribers} listening"].append(rate)
                    results[f"{name}, {subscribers} listening"].append(result)
                shown.advance(task)
            if VENV.exists():
                rate, result = _bare(seconds)
                rates["bare ASGI on Hypercorn"].append(rate)
                results["bare ASGI on Hypercorn"].append(result)
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
            for name, runs in results.items()
        ],
    )
    keep("write", results)
    names = list(rates)
    colors = [LIMIT if name.startswith("bare") else OURS for name in names]
    chart("write", lambda f: _draw(f, names, [middle(rates[n]) for n in names], colors))
    return results


def _draw(figure: Any, names: list[str], values: list[float], colors: list[str]) -> None:
    axes = figure.subplots()
    bars(axes, names, values, colors, "writes per second")
    axes.set_title("Writes a second, one server core", loc="left", fontsize=11)
