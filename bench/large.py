"""`large`: what a document of some 200 MB does to everybody else.

It is loaded in parts of just under 20 MiB, watched in parts, patched, read whole and thrown away,
while another client pings over WebSocket every 2 ms. Shown is how long a ping took at the worst in
each phase: that is for how long the server served nobody.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import httpx
from websockets.sync.client import connect

from bench.machine import serving, triode
from bench.report import OURS, bars, chart, console, keep, middle, progress, spread, table

PART_ITEMS: Final = 170_000
PARTS: Final = 10
PING_EVERY_S: Final = 0.002
SETTLE_S: Final = 1.0
JSON: Final = {"content-type": "application/json"}
MERGE: Final = {"content-type": "application/merge-patch+json"}


class Pings(threading.Thread):
    """Pings until stopped; how long each took, by phase."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.phase = "idle"
        self.took_ms: dict[str, list[float]] = defaultdict(list)
        self._port = port
        self._stopped = False

    def run(self) -> None:
        with connect(f"ws://127.0.0.1:{self._port}/ws") as ws:
            ws.recv()
            while not self._stopped:
                phase, began = self.phase, time.perf_counter()
                ws.send('{"type":"ping"}')
                ws.recv()
                self.took_ms[phase].append((time.perf_counter() - began) * 1000)
                time.sleep(PING_EVERY_S)

    def stop(self) -> None:
        """End it, after the ping under way."""
        self._stopped = True
        self.join()


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, list[dict[str, float]]]:
    """Measure, print, keep, draw."""
    parts, repeats = (2, 1) if quick else (PARTS, min(repeats, 2))
    body = json.dumps({"items": [_item(number) for number in range(PART_ITEMS)]}).encode()
    results: dict[str, list[dict[str, float]]] = defaultdict(list)
    with progress() as shown:
        task = shown.add_task("large", total=repeats * len(_STEPS))
        for _ in range(repeats):
            command, port = triode()
            with serving(command, port):
                took = _once(port, body, parts, lambda: shown.advance(task))
            for phase, took_ms in took.items():
                took_ms.sort()
                results[phase].append(
                    {"worst": took_ms[-1], "p99": took_ms[len(took_ms) * 99 // 100]}
                )
    table(
        f"A document of {parts} x {len(body) / 2**20:.1f} MiB: pings of another client, ms",
        ["while", "worst", "p99"],
        [
            [
                phase,
                spread([r["worst"] for r in runs]),
                spread([r["p99"] for r in runs]),
            ]
            for phase, runs in results.items()
        ],
    )
    worst = max(middle([r["worst"] for r in runs]) for runs in results.values())
    console.print(f"longest time without service, median of {repeats}: {worst:.0f} ms")
    keep("large", results, parts=parts, part_bytes=len(body))
    chart("large", lambda figure: _draw(figure, results), size=(8.4, 3.2))
    return results


def _draw(figure: Any, results: dict[str, list[dict[str, float]]]) -> None:
    axes = figure.subplots()
    values = [middle([r["worst"] for r in runs]) for runs in results.values()]
    bars(axes, list(results), values, [OURS] * len(values), "milliseconds, the worst ping")
    axes.set_title("A document of 200 MB: how long others wait, while …", loc="left", fontsize=11)


def _item(number: int) -> dict[str, Any]:
    name = f"user {number}"
    inner = {"x": number, "y": [1, 2, 3]}
    return {"id": number, "name": name, "tags": ["a", "b"], "score": number * 1.5, "in": inner}


def _once(port: int, body: bytes, parts: int, done: Callable[[], None]) -> dict[str, list[float]]:
    base = f"http://127.0.0.1:{port}"
    pings = Pings(port)
    pings.start()
    try:
        with httpx.Client(base_url=base, timeout=120) as client:
            for phase, step in _STEPS.items():
                pings.phase = phase
                step(client, body, parts)
                time.sleep(SETTLE_S)
                done()
    finally:
        pings.stop()
    return pings.took_ms


def _load(client: httpx.Client, body: bytes, parts: int) -> None:
    for number in range(parts):
        put = client.put(f"/store?path=.part{number}", content=body, headers=JSON)
        put.raise_for_status()


def _watch_and_patch(client: httpx.Client, _body: bytes, _parts: int) -> None:
    filters = "filter=.part0.items[7]&filter=.part1.items[id=100].name"
    with client.stream("GET", f"/events?{filters}") as stream:
        lines = stream.iter_lines()
        for number in range(200):
            client.patch(f"/store?path=.part0.items[{number % 20}].name", json=number)
        for number in range(20):
            part = json.dumps({"n": number})
            client.patch("/store?path=.part0", content=part, headers=MERGE)
        while '"path":".part0.items[7].name"' not in next(lines):
            pass


def _remove_elements(client: httpx.Client, _body: bytes, _parts: int) -> None:
    for _ in range(5):
        client.delete("/store?path=.part1.items[0]").raise_for_status()


def _read_whole(client: httpx.Client, body: bytes, parts: int) -> None:
    size = 0
    with client.stream("GET", "/store?path=.") as stream:
        for number, piece in enumerate(stream.iter_raw()):
            size += len(piece)
            if number % 200 == 0:  # written to meanwhile: the answer stays what it was
                client.patch("/store?path=.part1.items[0].name", json=number)
    assert size > parts * len(body) * 0.7, "not the whole document"


def _replace(client: httpx.Client, _body: bytes, _parts: int) -> None:
    client.put("/store?path=.part0", content=b"{}", headers=JSON).raise_for_status()


def _throw_away(client: httpx.Client, _body: bytes, _parts: int) -> None:
    client.post("/store", content=b"{}", headers=JSON).raise_for_status()
    time.sleep(2 * SETTLE_S)


_STEPS: Final = {
    "idle": lambda _client, _body, _parts: time.sleep(SETTLE_S),
    "it is loaded": _load,
    "parts are watched and patched": _watch_and_patch,
    "elements of a part are removed": _remove_elements,
    "it is read whole, and written to": _read_whole,
    "a part is replaced": _replace,
    "it is thrown away": _throw_away,
}
