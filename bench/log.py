"""`log`: what it costs that nothing is lost.

Writes a second of 100 that wait for their answers, with a log that is synced, with one that is not,
and in memory, beside a bare loop of SQLite with batches of 100; how long a start takes with a
document of 200 MB and 10 000 writes to redo, beside decoding the document; and what a snapshot of
it costs others. `BENCH_BASE=DIR` adds memory mode of the checkout there, with its own `.venv`.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from bench.log_large import large
from bench.machine import SERVER_CORE, serving, triode
from bench.report import LIMIT, OURS, bars, chart, keep, middle, progress, spread, table
from bench.writers import Answers, until_ready, wait_in_turn

WRITERS: Final = 100
LINE: Final = (
    b'{"time_ms":1767225600000,"op":{"op":"set","path":["w"],"value":17},"by":"anonymous"}'
)
BARE: Final = "sqlite3, a bare loop"
FULL, RELAXED, MEMORY = "synced (full)", "not synced (relaxed)", "in memory"
BASE: Final = "in memory, the base"


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, Any]:
    """Measure, print, keep, draw."""
    seconds, repeats = (1.0, 1) if quick else (3.0, repeats)
    results: dict[str, list[dict[str, float]]] = defaultdict(list)
    names = [BARE, FULL, RELAXED, MEMORY, *([BASE] if "BENCH_BASE" in os.environ else [])]
    with progress() as shown, tempfile.TemporaryDirectory(prefix="bench-log") as folder:
        task = shown.add_task("log", total=repeats * len(names))
        for turn in range(repeats):
            for name in names if turn % 2 == 0 else names[::-1]:
                home = Path(folder) / f"{name}-{turn}"
                home.mkdir()
                results[name].append(_measure(name, home, seconds))
                shown.advance(task)
    _show(results)
    big = large(quick=quick)
    keep("log", results, **big)
    rated = [name for name in names if name in results]
    colors = [LIMIT if name in (BARE, BASE) else OURS for name in rated]
    values = [middle([r["per_s"] for r in results[name]]) for name in rated]
    chart("log", lambda figure: _draw(figure, rated, values, colors), size=(8.4, 3))
    return {**results, **big}


def _measure(name: str, home: Path, seconds: float) -> dict[str, float]:
    if name == BARE:
        return _bare(home, seconds)
    flags = {
        FULL: ["--data", str(home / "kept")],
        RELAXED: ["--data", str(home / "kept"), "--durability", "relaxed"],
    }.get(name, [])
    command, port = triode(*flags)
    if name == BASE:
        command = _base(port)
    with serving(command, port) as server:
        until_ready(port)
        wait_in_turn(port, WRITERS, seconds / 4)
        server.sample("begin")
        answers = wait_in_turn(port, WRITERS, seconds)
        server.sample("end")
        cpu_s = server.usage().cpu * answers.seconds
        return _numbers(answers) | {"cpu_us": 1e6 * cpu_s / len(answers.took_ms)}


def _base(port: int) -> list[str | Path]:
    """The checkout's own environment, and only the options that it has had from the first."""
    own = Path(os.environ["BENCH_BASE"]) / ".venv/bin/triode"
    told = subprocess.run([own, "serve", "--help"], capture_output=True, text=True, check=True)
    memory = ["--data", "memory"] if "--data" in told.stdout else []
    return [own, "serve", "--port", str(port), "--http-rate", "0", "--ws-rate", "0", *memory]


def _numbers(answers: Answers) -> dict[str, float]:
    return {"per_s": answers.per_s, "p50_ms": answers.at(0.5), "p99_ms": answers.at(0.99)}


def _bare(home: Path, seconds: float) -> dict[str, float]:
    """The same batches, and nothing else; and what a sync alone takes."""
    os.sched_setaffinity(0, {SERVER_CORE})
    data = b"1\n" + b"\n".join([LINE] * WRITERS)
    db = sqlite3.connect(home / "bare.db", isolation_level=None)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(
        "CREATE TABLE batch(last INTEGER PRIMARY KEY, first INTEGER NOT NULL, data BLOB NOT NULL)"
    )
    took_ms: list[float] = []
    began, cpu_s = time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        at = time.perf_counter()
        first = len(took_ms) * WRITERS
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO batch VALUES(?, ?, ?)", (first + WRITERS, first + 1, data))
        db.execute("COMMIT")
        took_ms.append((time.perf_counter() - at) * 1000)
    answers = Answers(took_ms, time.perf_counter() - began)
    cpu_us = 1e6 * (time.process_time() - cpu_s) / (len(took_ms) * WRITERS)
    db.close()
    rows = {"per_s": answers.per_s * WRITERS, "sync_ms": _sync_ms(home), "cpu_us": cpu_us}
    return _numbers(answers) | rows


def _sync_ms(home: Path, count: int = 100) -> float:
    file = os.open(home / "sync", os.O_CREAT | os.O_WRONLY)
    took = []
    for _ in range(count):
        os.write(file, bytes(12_000))
        at = time.perf_counter()
        os.fdatasync(file)
        took.append((time.perf_counter() - at) * 1000)
    os.close(file)
    return sorted(took)[count // 2]


def _show(results: dict[str, list[dict[str, float]]]) -> None:
    memory = middle([r["per_s"] for r in results[MEMORY]])
    table(
        f"{WRITERS} writers, each waiting for its answer, over as many WebSockets",
        ["", "writes a second", "of memory", "p50 ms", "p99 ms", "CPU, us a write"],
        [
            [
                name,
                spread([r["per_s"] for r in runs]),
                f"{middle([r['per_s'] for r in runs]) / memory:.2f}",
                spread([r["p50_ms"] for r in runs]),
                spread([r["p99_ms"] for r in runs]),
                spread([r["cpu_us"] for r in runs]),
            ]
            for name, runs in results.items()
        ],
    )
    bare = [r["per_s"] for r in results[BARE]]
    sync_ms = middle([r["sync_ms"] for r in results[BARE]])
    ratios = [ours["per_s"] / other for ours, other in zip(results[FULL], bare, strict=True)]
    table(
        "Synced, beside SQLite alone",
        ["", "times"],
        [
            ["writes a second, of the bare loop's", spread(ratios)],
            [f"p50, of one fdatasync ({sync_ms:.2g} ms)",
             spread([r["p50_ms"] / sync_ms for r in results[FULL]])],
        ],
    )  # fmt: skip


def _draw(figure: Any, names: list[str], values: list[float], colors: list[str]) -> None:
    axes = figure.subplots()
    bars(axes, names, values, colors, "writes a second")
    axes.set_title("100 writers that wait for their answers", loc="left", fontsize=11)
