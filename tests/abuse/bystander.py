"""The bystander: pings over WebSocket, one after the other, and says what its worst wait was.

    python -m tests.abuse.bystander PORT

A process of its own, so that what the attacker does in Python is not measured. A line on its
standard input asks for the worst wait since the last line, in milliseconds.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAUSE_S: Final = 0.001
PING: Final = b"\x89\x80\x00\x00\x00\x00"
PATIENCE_S: Final = 120.0


class Bystander:
    """The process, as those who start it see it."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.abuse.bystander", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.worst_ms()

    def worst_ms(self) -> float:
        """The worst wait since this was asked last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

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


def main(port: int) -> None:
    """Ping until standard input ends."""
    sock = connect(port)
    sock.sendall(PING)
    rest = wait_for_pong(sock, b"")
    worst = 0.0
    while True:
        sent_at = time.perf_counter()
        sock.sendall(PING)
        rest = wait_for_pong(sock, rest)
        worst = max(worst, time.perf_counter() - sent_at)
        if select.select([sys.stdin], [], [], PAUSE_S)[0]:
            if not sys.stdin.readline():
                return
            print(round(worst * 1000, 3), flush=True)
            worst = 0.0


if __name__ == "__main__":
    main(int(sys.argv[1]))
