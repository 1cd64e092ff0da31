"""Triodes as processes, on the log of a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from tests.cluster.server import free_port

START_S: Final = 20.0
OPTIONS: Final = ("--http-rate", "0", "--ws-rate", "0", "--retry-min", "0.1s")


def client_of(timeout_s: float = 12.0) -> httpx.AsyncClient:
    """A client; without certificates, which take long to load."""
    return httpx.AsyncClient(timeout=timeout_s, verify=False)


class Node:
    """One `triode serve`."""

    def __init__(self, log: str, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = folder / f"node-{self.port}.log"
        self._command = [sys.executable, "-m", "triode", "serve", "--port", str(self.port),
                         "--log", log, *OPTIONS, *options]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._spawn()
        with trio.fail_after(START_S):
            while not await self._is_ready():
                assert self._process is not None
                assert self._process.poll() is None, self.output.read_text()
                await trio.sleep(0.05)

    def _spawn(self) -> None:
        with self.output.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)

    async def _is_ready(self) -> bool:
        try:
            async with client_of() as client:
                return (await client.get(f"{self.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """As `kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not killed."""
        return self._process is not None

    async def document(self) -> Any:
        """What it has."""
        async with client_of() as client:
            return json.loads((await client.get(f"{self.url}/store?path=.")).content)

    async def events(self, path: str, updates: int) -> str:
        """A stream, up to so many updates."""
        text = b""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            with trio.fail_after(START_S):
                while text.count(b"event: update") < updates:
                    text += await stream.receive_some()
        return text.decode()

    async def position(self) -> str:
        """Where it stands."""
        async with client_of() as client:
            body = (await client.get(f"{self.url}/health")).json()
        return str(body["checks"]["log"]["position"])


@asynccontextmanager
async def nodes(log: str, folder: Path, count: int, *options: str) -> AsyncIterator[list[Node]]:
    """So many, started one after the other; killed in the end."""
    made = [Node(log, folder, *options) for _ in range(count)]
    try:
        for node in made:
            await node.start()
        yield made
    finally:
        for node in made:
            node.kill()
