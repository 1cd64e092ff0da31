"""The bystander: pings over WebSocket, one after the other, and says what its worst wait was.

    python -m tests.abuse.bystander PORT PID

A process of its own, so that what the attacker does in Python is not measured. A line on its
standard input asks for the worst wait since the last line, in milliseconds: by the clock, and how
much processor time the server with this PID had in a wait. The second is no matter of what else
the machine does, and there is nothing that a server may do in it instead of answering.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.behaviour.server import Server

ROOT: Final = Path(__file__).resolve().parents[2]
PAUSE_S: Final = 0.001
PING: Final = b"\x89\x80\x00\x00\x00\x00"
PATIENCE_S: Final = 120.0
# Before all others, so that it notices its pong when it comes; where that is allowed.
NICENESS: Final = -10


class Wait(NamedTuple):
    """The worst ones, in milliseconds."""

    wait_ms: float
    server_ms: float

    def faults(self, bound_ms: float) -> list[str]:
        """What must not be, in words."""
        if self.server_ms > bound_ms:
            return [f"over {bound_ms:g} ms"]
        return []

    def note(self, bound_ms: float) -> str:
        """What may be, and has to be seen again when nothing else runs."""
        is_over = self.wait_ms > bound_ms >= self.server_ms
        return f" (over {bound_ms:g} ms by the clock alone: see a quiet machine)" * is_over


class Bystander:
    """The process, as those who start it see it."""

    def __init__(self, server: Server) -> None:
        pid = server.processes()[-1].pid
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.abuse.bystander", str(server.port), str(pid)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.worst()

    def worst(self) -> Wait:
        """The worst wait since this was asked last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        wait_ms, server_ms = map(float, self._process.stdout.readline().split())
        return Wait(wait_ms, server_ms)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def connect(port: int) -> socket.socket:
    """A WebSocket that hears nothing."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    sock.sendall(head.encode())
    return sock


def wait_for_pong(sock: socket.socket, rest: bytes) -> bytes:
    """Read until a pong has come; gives what came after it."""
    while b"\x8a\x00" not in rest:
        data = sock.recv(65536)
        if not data:
            raise SystemExit("the bystander was disconnected")
        rest += data
    return rest.partition(b"\x8a\x00")[2]


def clock_of(pid: int) -> int:
    """The clock of a process's processor time (clock_getcpuclockid(3) makes it so on Linux)."""
    return (~pid << 3) | 2


class OwnDelay:
    """For how long this process would have run and had no processor: meanwhile the server may have
    gone on, though the pong was there.
    """

    def __init__(self) -> None:
        # The second figure, in nanoseconds (Documentation/scheduler/sched-stats in Linux).
        self._file = os.open("/proc/self/schedstat", os.O_RDONLY)

    def s(self) -> float:
        """Until now, in seconds."""
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9


def main(port: int, pid: int) -> None:
    """Ping until standard input ends."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    server_clock = clock_of(pid)
    own = OwnDelay()
    sock = connect(port)
    sock.sendall(PING)
    rest = wait_for_pong(sock, b"")
    worst_s = worst_server_s = 0.0
    while True:
        late_at, sent_at = own.s(), time.perf_counter()
        server_at = time.clock_gettime(server_clock)
        sock.sendall(PING)
        rest = wait_for_pong(sock, rest)
        worst_s = max(worst_s, time.perf_counter() - sent_at)
        server_s = time.clock_gettime(server_clock) - server_at
        worst_server_s = max(worst_server_s, server_s - (own.s() - late_at))
        if select.select([sys.stdin], [], [], PAUSE_S)[0]:
            if not sys.stdin.readline():
                return
            print(round(worst_s * 1000, 3), round(worst_server_s * 1000, 3), flush=True)
            worst_s = worst_server_s = 0.0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
