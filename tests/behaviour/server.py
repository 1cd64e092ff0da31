"""Start Triode as its users do: a process of its own, on a free port, in either way of serving.

The settings of a server are given once, by the names of the command line without its dashes
(`max_clients`), and reach the process in the way that belongs to the lane: the native lane takes
those of `FLAGS` as flags and all others as `TRIODE_*`, Hypercorn takes everything as
`TRIODE_*`. The process runs in an empty directory, so that no configuration file and no data of the
project itself is picked up.

`Server.stop` is part of every test session: a server that does not exit with 0 on SIGTERM, or that
logged a traceback at any time, fails the session.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import psutil

Lane = Literal["native", "hypercorn"]
LANES: tuple[Lane, ...] = ("native", "hypercorn")

# TESTS_DATA=1: all servers have a log, which must not change what clients see.
KEPT = bool(os.environ.get("TESTS_DATA"))

ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 40.0
STOP_DEADLINE_S = 40.0
PORTS_TRIED = 3
TAKEN = re.compile(r"something else listens there|Address already in use|Errno 98")

# What people give as flags; what is not here is a matter of the environment.
FLAGS = frozenset(
    {
        "http_rate",
        "ws_rate",
        "max_clients",
        "queue_items",
        "queue_bytes",
        "write_deadline",
        "heartbeat",
        "history_items",
        "history_bytes",
        "admin_token",
        "jwt_key",
    }
)

Settings = dict[str, str | int | float]

# Most tests are not about rates, and one machine sends them all.
OPEN: Settings = {"http_rate": 0, "ws_rate": 0, "cpu_share": 0}


class ServerFault(AssertionError):
    """The server did not start, did not stop, or logged a traceback; carries its log."""


class Server:
    """One running server of one lane; `start` and `stop` block, tests talk to it over its port."""

    def __init__(self, lane: Lane, settings: Settings, home: Path) -> None:
        self.lane = lane
        kept: Settings = {"data": "kept" if KEPT else "memory"}
        self.settings = kept | settings
        self.home = home
        self.port = 0
        self._log_path = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._stop_until_s: float | None = None

    def start(self, port: int = 0) -> None:
        """Return when `/readyz` answers 200; raises `ServerFault` with the log when it does not in
        time. Without a `port` it takes a free one.
        """
        for _ in range(PORTS_TRIED):
            offset = self.log_size()
            self.port = port or free_port()
            if self._has_started():
                return
            # Between our look and its start another process may have taken it.
            if port or not TAKEN.search(self.log(offset)):
                break
        raise ServerFault(f"{self.lane}: ended at start\n{self.log()}")

    def _has_started(self) -> bool:
        """Start it, and wait until it is ready. False: it ended instead."""
        self._process = self._launch()
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._is_ready():
            if self._process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFault(f"{self.lane}: not ready in {START_DEADLINE_S} s\n{self.log()}")
            time.sleep(0.05)
        return True

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                self._command(),
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def terminate(self) -> None:
        """Send SIGTERM, once; `stop` waits for the end."""
        if self._process is not None and self._stop_until_s is None:
            self._stop_until_s = time.monotonic() + STOP_DEADLINE_S
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """SIGTERM, and all that a clean end is: in time, exit status 0, no traceback in the log."""
        self.terminate()
        process, until_s = self._process, self._stop_until_s
        if process is None or until_s is None:
            return
        self._process = self._stop_until_s = None
        try:
            status = process.wait(max(0.01, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process = process
            self.kill()
            raise ServerFault(f"{self.lane}: did not exit on SIGTERM\n{self.log()}") from None
        if status != 0:
            raise ServerFault(f"{self.lane}: exit status {status}\n{self.log()[-5000:]}")
        _, found, after = self.log().partition("Traceback (most recent call last)")
        if found:
            raise ServerFault(f"{self.lane}: traceback in the log\n{found}{after[:5000]}")

    def log(self, offset: int = 0) -> str:
        """All that the server has printed, from byte `offset` on."""
        data = self._log_path.read_bytes() if self._log_path.exists() else b""
        return data[offset:].decode("utf-8", "replace")

    def log_size(self) -> int:
        """The size of the log in bytes now."""
        return self._log_path.stat().st_size if self._log_path.exists() else 0

    def open_files(self) -> int:
        """File descriptors of the server, its worker process included."""
        return sum(one.num_fds() for one in self.processes())

    def limit_files(self, most: int) -> None:
        """From now on no process of it may open more files than so many."""
        for one in self.processes():
            one.rlimit(psutil.RLIMIT_NOFILE, (most, one.rlimit(psutil.RLIMIT_NOFILE)[1]))

    def memory(self) -> int:
        """Resident bytes, its worker process included."""
        return sum(one.memory_info().rss for one in self.processes())

    def processes(self) -> list[psutil.Process]:
        """Its processes; the last one serves."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def is_answering(self) -> bool:
        """It runs and answers; a worker that is about to end with its process still up does not."""
        return self._process is not None and self._process.poll() is None and self._is_ready()

    def restart(self) -> None:
        """Start anew, on another port, after it has ended by itself."""
        self.kill()
        self.start()

    def _command(self) -> list[str]:
        if self.lane == "hypercorn":
            bind = f"127.0.0.1:{self.port}"
            return [sys.executable, "-m", "hypercorn", "-k", "trio", "app:app", "--bind", bind]
        command = [sys.executable, "-m", "triode", "serve", "--port", str(self.port)]
        for name, value in self.settings.items():
            if name in FLAGS:
                command += ["--" + name.replace("_", "-"), str(value)]
        return command

    def _environment(self) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRIODE_")}
        environment["PYTHONPATH"] = str(ROOT)
        environment["PYTHONUNBUFFERED"] = "1"
        for name, value in self.settings.items():
            if self.lane == "hypercorn" or name not in FLAGS:
                environment["TRIODE_" + name.upper()] = str(value)
        return environment

    def probe(self) -> http.client.HTTPConnection:
        """A connection to ask whether it is ready."""
        # A source address that no test uses: the probe must not spend anybody's rate.
        return http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=2, source_address=("127.0.0.254", 0)
        )

    def _is_ready(self) -> bool:
        connection = self.probe()
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(process.pid).children(recursive=True):
                one.kill()
        process.kill()
        process.wait()
        self._process = None


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
