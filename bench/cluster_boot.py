"""How long a node takes to begin with a document of 200 MB from a shared log, and 10 000 writes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx

from bench.log_large import ITEMS, QUICK_ITEMS, REDONE, decode_s, document, write_many
from bench.machine import LOAD_CORE, serving, triode
from bench.writers import until_ready

READY_S: Final = 240


def boot(port: int, *, quick: bool) -> dict[str, float]:
    """At the server with this port, where there is no log yet."""
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="bench-cluster") as name:
        file = Path(name) / "document.json"
        file.write_text(json.dumps(document(QUICK_ITEMS if quick else ITEMS)))
        size_mb = file.stat().st_size / 1e6
        decoding_s = decode_s(file)
        log = f"valkey://127.0.0.1:{port}/0"
        command, own = triode("--log", log, "--load", str(file))
        with serving(command, own):
            until_ready(own, READY_S)
            # A short log is redone from its beginning: the document comes out of it as one write.
            _wait_for_snapshot(own, quick=quick)
            with httpx.Client(base_url=f"http://127.0.0.1:{own}", timeout=120) as http:
                write_many(http, REDONE)
        command, own = triode("--log", log)
        with serving(command, own) as node:
            until_ready(own, READY_S)
            node.sample("ready")
            gauges = httpx.get(f"http://127.0.0.1:{own}/stats", timeout=60).json()["gauges"]
    return {
        "size_mb": size_mb,
        "redone": REDONE,
        "decode_cpu_s": decoding_s,
        "boot_cpu_s": node.at["ready"][1],
        "boot_s": gauges["log_boot_seconds"],
    }


def _wait_for_snapshot(port: int, *, quick: bool) -> None:
    until = time.monotonic() + READY_S
    while not quick and time.monotonic() < until:
        stats = httpx.get(f"http://127.0.0.1:{port}/stats", timeout=60).json()
        if (stats["log"]["snapshot"] or {"seq": 0})["seq"]:
            return
        time.sleep(0.5)
