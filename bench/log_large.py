"""A log with a document of 200 MB: how long a start takes, and what a snapshot costs others."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

import httpx
import psutil

from bench.machine import LOAD_CORE, ROOT, SERVER_CORE, TRIODE_FLAGS, free_port
from bench.report import console, table
from bench.writers import Paced
from triode.app.service.saving import LEAST_BYTES

ITEMS: Final = 1_900_000
QUICK_ITEMS: Final = 190_000
REDONE: Final = 10_000
PER_S: Final = 1000
READY_S: Final = 240
DECODE: Final = """
import gc, msgspec, sys, time
data = open(sys.argv[1], 'rb').read()
gc.disable()
t = time.process_time()
msgspec.json.decode(data)
print(time.process_time() - t)
"""


class Process:
    """A `triode serve` that keeps its document in a folder, and ends with the block."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "triode", "serve", "--port", str(self.port), *TRIODE_FLAGS]
        self._log = (folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [*command, "--data", str(folder / "kept"), *flags],
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
        self.ps = psutil.Process(self.process.pid)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)
        self.booting = 0

    def __enter__(self) -> Self:
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def _wait(self) -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
                self.booting += 1
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"did not start: {Path(self._log.name).read_text()[-600:]}")

    def cpu_s(self) -> float:
        """Used so far."""
        times = self.ps.cpu_times()
        return times.user + times.system

    def gauges(self) -> dict[str, float]:
        """Of `/stats`, and the number up to which a snapshot goes."""
        stats = self.http.get("/stats").raise_for_status().json()
        return stats["gauges"] | {"snapshot": stats["log"]["snapshot"]["seq"]}

    def _end(self) -> None:
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def write_many(http: httpx.Client, count: int, value: str = "1") -> None:
    """Writes that nobody measures."""
    line = f'{{"type":"set","path":".many","value":{value}}}\n'
    step = max(1, min(2000, 8_000_000 // len(line)))
    for begun in range(0, count, step):
        body = line * min(step, count - begun)
        headers = {"content-type": "application/x-ndjson"}
        http.post("/store/batch", content=body, headers=headers).raise_for_status()


def decode_s(file: Path) -> float:
    """CPU time of decoding it, on the server's core."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", DECODE, str(file)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def large(*, quick: bool = False) -> dict[str, Any]:
    """Measure and print."""
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="bench-log") as name:
        folder = Path(name)
        file = folder / "document.json"
        items = QUICK_ITEMS if quick else ITEMS
        file.write_text(json.dumps(document(items)))
        gc.collect()
        size_mb = file.stat().st_size / 1e6
        decoding_s = decode_s(file)
        with Process(folder, "--load", str(file)) as first:
            file.unlink()
            while first.gauges()["snapshot"] == 0 and not quick:
                time.sleep(0.5)
            write_many(first.http, REDONE)
            first.process.kill()
        with Process(folder) as second:
            boot_cpu_s, gauges = second.cpu_s(), second.gauges()
            boot_s = gauges["log_boot_seconds"]
            snapshot = _snapshot(second, 5 if quick else 20)
    table(
        f"A document of {size_mb:.0f} MB, {REDONE} writes to redo after kill -9",
        ["", "seconds"],
        [
            ["msgspec.json.decode, CPU", f"{decoding_s:.2f}"],
            ["start until it is ready", f"{boot_s:.2f}"],
            ["its CPU, imports included", f"{boot_cpu_s:.2f}"],
            ["times 2.5 and a second, the goal", f"{2.5 * decoding_s + 1:.2f}"],
        ],
    )
    table(
        f"A snapshot of it, under {PER_S} writes a second",
        ["", "before", "meanwhile", "times"],
        [
            [what, f"{before:.3g}", f"{meanwhile:.3g}", f"{meanwhile / before:.2f}"]
            for what, before, meanwhile in snapshot["rows"]
        ],
    )
    console.print(
        f"the snapshot took {snapshot['seconds']:.1f} s; asked while it started: {second.booting}"
    )
    return {
        "size_mb": size_mb,
        "boot": {"decode_cpu_s": decoding_s, "boot_s": boot_s, "boot_cpu_s": boot_cpu_s},
        "snapshot": snapshot,
    }


def _snapshot(server: Process, seconds: float) -> dict[str, Any]:
    paced = Paced(server.port, PER_S)
    try:
        paced.run(2)
        before = paced.run(seconds)
        gauges = server.gauges()
        rss = server.ps.memory_info().rss
        # As much log as makes one due: half of the document.
        missing = max(gauges["document_bytes"] / 2, LEAST_BYTES) + 1e6 - gauges["log_unsaved_bytes"]
        write_many(server.http, max(int(missing // 100_000), 1), json.dumps("x" * 100_000))
        most = rss
        began = time.monotonic()

        def is_kept() -> bool:
            nonlocal most, looked
            if time.monotonic() - looked < 0.2:
                return False
            looked = time.monotonic()
            most = max(most, server.ps.memory_info().rss)
            return server.gauges()["snapshot"] != gauges["snapshot"]

        looked = began
        meanwhile = paced.run(120, until=is_kept)
        return {
            "seconds": time.monotonic() - began,
            "rows": [
                ("answer to a write, p50 ms", before.at(0.5), meanwhile.at(0.5)),
                ("answer to a write, p99 ms", before.at(0.99), meanwhile.at(0.99)),
                ("memory, MB", rss / 1e6, most / 1e6),
            ],
        }
    finally:
        paced.close()


def document(items: int) -> dict[str, Any]:
    """Of so many objects, about 105 bytes each."""
    return {"items": [_item(n) for n in range(items)]}


def _item(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"user {number}",
        "tags": ["a", "b"],
        "score": number * 1.5,
        "in": {"x": number},
    }
