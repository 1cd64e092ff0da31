"""`triode serve --workers 2`: real processes that share a port and a log. Each starts
three interpreters, which takes seconds.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import trio

from tests.cluster.event_source import EventSource
from tests.cluster.nodes import OPTIONS, client_of
from tests.cluster.server import Server, free_port
from tests.cluster.waiting import until

PATIENCE_S: Final = 60.0
COMMAND: Final = [sys.executable, "-m", "triode", "serve", "--json", "--workers", "2"]


class Port:
    """Two workers, and the process that looks after them."""

    def __init__(self, log: str, folder: Path, *options: str) -> None:
        self.output = folder / "output"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*COMMAND, "--port", "0", "--log", log, *OPTIONS, *options], stdout=out, stderr=out
            )
        self.port = 0

    async def start(self) -> None:
        """Wait until both accept."""
        await until(self._is_announced)

    def _is_announced(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        found = re.search(rb'"listening": \["http://127.0.0.1:(\d+)"', self.output.read_bytes())
        self.port = int(found[1]) if found else 0
        return bool(found)

    def pids(self) -> set[int]:
        """Of the workers that run."""
        children = psutil.Process(self.process.pid).children()
        return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}

    async def ask(self, path: str) -> Any:
        """A GET, at whichever worker takes it."""
        async with client_of() as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}{path}")
            return answer.raise_for_status().json()

    def end(self) -> None:
        """Whatever it takes."""
        pids = self.pids() if self.process.poll() is None else set()
        self.process.kill()
        self.process.wait()
        for pid in pids:
            # They end with it; none may be left behind in any case.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def workers(log: str, folder: Path, *options: str) -> AsyncIterator[Port]:
    port = Port(log, folder, *options)
    try:
        await port.start()
        yield port
    finally:
        port.end()


async def both(port: int, nursery: trio.Nursery) -> list[EventSource]:
    """A client on each worker: whom the kernel gives a connection to is chance."""
    watchers: list[EventSource] = []
    with trio.fail_after(PATIENCE_S):
        while len({watcher.nodes[0] for watcher in watchers}) < 2:
            watcher = EventSource(port, retry_s=0.05)
            nursery.start_soon(watcher.run)
            await until(watcher.is_connected)
            watchers.append(watcher)
    return watchers


async def write(port: int, value: int) -> None:
    """Until it is answered, with a key: a worker may die under it."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                async with client_of() as client:
                    answer = await client.put(
                        f"http://127.0.0.1:{port}/store?path=.n",
                        json=value,
                        headers={"Idempotency-Key": f'"w{value}"'},
                    )
                if answer.status_code < 300:
                    return
            except httpx.TransportError:
                pass
            await trio.sleep(0.02)


async def test_one_dies_and_nobody_misses_anything(server: Server, tmp_path: Path) -> None:
    # Four starts of an interpreter, in turn.
    async with workers(server.url, tmp_path) as port, trio.open_nursery() as nursery:
        first = port.pids()
        assert len(first) == 2
        await write(port.port, 0)
        watchers = await both(port.port, nursery)
        for value in range(1, 40):
            await write(port.port, value)
            if value == 15:
                os.kill(min(first), signal.SIGKILL)
        await until(lambda: all(39 in watcher.values for watcher in watchers))
        for watcher in watchers:
            # The one before any stream was there may be among what it began with.
            assert [value for value in watcher.values if value] == list(range(1, 40))
        assert {len(watcher.nodes) > 1 for watcher in watchers} == {True, False}
        await until(lambda: len(port.pids()) == 2)
        assert max(first) in port.pids()
        await until(lambda: b"worker #" in port.output.read_bytes())
        await until(lambda: b"is back" in port.output.read_bytes())
        assert b"ended by SIGKILL" in port.output.read_bytes()
        stats = await port.ask("/stats")
        assert stats["gauges"]["worker_deaths_total"] == stats["workers"]["deaths"] == 1
        nursery.cancel_scope.cancel()


async def test_the_numbers_of_one_are_those_of_all(server: Server, tmp_path: Path) -> None:
    async with workers(server.url, tmp_path) as port, trio.open_nursery() as nursery:
        watchers = await both(port.port, nursery)
        await write(port.port, 1)
        stats: dict[str, Any] = {}
        with trio.fail_after(PATIENCE_S):
            while stats.get("workers", {}).get("missing", [0]):  # a busy one answers late
                stats = await port.ask("/stats?clients=all")
        each = stats["workers"]["each"]
        assert {one["pid"] for one in each} == port.pids()
        assert stats["gauges"]["clients"] == len(watchers) == len(stats["clients"])
        assert all(one["clients"] for one in each)
        assert stats["gauges"]["memory_rss_bytes"] == sum(one["memory_rss_bytes"] for one in each)
        assert stats["counters"]["connections_total"]["sse"] == len(watchers)
        assert stats["gauges"]["log_nodes"] == 2
        async with client_of() as client:
            text = (await client.get(f"http://127.0.0.1:{port.port}/metrics")).text
        assert f"triode_clients {len(watchers)}.0" in text
        assert f'triode_connections_total{{transport="sse"}} {len(watchers)}.0' in text
        assert "triode_workers 2.0" in text

        # One that is frozen is named, and keeps who asks another one waiting for a second.
        asked = stats["workers"]["asked"]
        frozen = next(one["pid"] for one in each if one["worker"] != asked)
        os.kill(frozen, signal.SIGSTOP)
        try:
            await until_missing(port)
        finally:
            os.kill(frozen, signal.SIGCONT)
        nursery.cancel_scope.cancel()


async def until_missing(port: Port) -> None:
    """Ask until the one that is not frozen is asked."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                async with client_of(3) as client:
                    answer = await client.get(f"http://127.0.0.1:{port.port}/stats")
            except httpx.TransportError:
                continue
            body = answer.json()["workers"]
            if len(body["missing"]) == 1:
                assert [one["worker"] for one in body["each"]] == [body["asked"]]
                return


async def test_signals_are_passed_on_and_all_end_together(server: Server, tmp_path: Path) -> None:
    async with workers(server.url, tmp_path) as port:
        port.process.send_signal(signal.SIGHUP)
        await until(lambda: port.output.read_bytes().count(b"read anew") == 2)
        port.process.send_signal(signal.SIGTERM)
        await until(lambda: port.process.poll() is not None)
        assert port.process.returncode == 0, port.output.read_text()
        assert port.output.read_bytes().count(b"SIGTERM: draining") == 3


async def test_workers_do_not_outlive_who_looks_after_them(server: Server, tmp_path: Path) -> None:
    async with workers(server.url, tmp_path) as port:
        pids = port.pids()
        port.process.kill()
        port.process.wait()
        await until(lambda: not any(map(is_running, pids)))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def refused(*options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_without_a_shared_log_it_is_said_how_to_start_one() -> None:
    ended = refused("--port", "0")
    assert ended.returncode == 2
    assert "valkey-server --appendonly yes --maxmemory-policy noeviction" in ended.stderr


def test_what_is_wrong_ends_the_start(tmp_path: Path) -> None:
    """No server of a log there: none is started again and again."""
    ended = refused("--port", "0", "--log", f"valkey://127.0.0.1:{free_port()}/0")
    assert ended.returncode == 1
    assert "--log: " in ended.stderr


async def test_a_port_that_is_taken_is_not_shared(server: Server, tmp_path: Path) -> None:
    async with workers(server.url, tmp_path) as port:
        ended = await trio.to_thread.run_sync(
            refused, "--port", str(port.port), "--log", server.url
        )
        assert ended.returncode == 1
        assert "something else listens there" in ended.stderr
