"""Writers on raw WebSockets: each sends a write, and the next one when it is answered; or one that
writes so many a second.

As little as Python can do for each: frames are made beforehand, an answer is whatever arrives.
"""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass
from typing import Final

from bench.machine import LOAD_CORE
from bench.report import quantile

SHAKE: Final = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ANSWER_S: Final = 30


@dataclass
class Answers:
    """How long answers took, in ms, and in how many seconds they came."""

    took_ms: list[float]
    seconds: float

    @property
    def per_s(self) -> float:
        return len(self.took_ms) / self.seconds

    def at(self, share: float) -> float:
        """The time that this share of them did not exceed."""
        return quantile(self.took_ms, share)


def frame(text: str) -> bytes:
    """A text frame of a client; masked with zeros, which changes nothing."""
    data = text.encode()
    assert len(data) < 65536
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + data


def until_ready(port: int, within_s: float = ANSWER_S) -> None:
    """While it reads its log it answers that it starts."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", port), ANSWER_S) as sock:
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if sock.recv(4096).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.1)
    raise RuntimeError("it did not become ready")


def connect(port: int) -> socket.socket:
    """A WebSocket that has said who it is."""
    sock = socket.create_connection(("127.0.0.1", port), ANSWER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(SHAKE.encode())
    data = b""
    while b'"connected"' not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    time.sleep(0.01)
    return sock


def wait_in_turn(port: int, writers: int, seconds: float) -> Answers:
    """So many writers, each with one write that is not answered."""
    os.sched_setaffinity(0, {LOAD_CORE})
    socks = {sock.fileno(): sock for sock in (connect(port) for _ in range(writers))}
    frames = {fd: frame(f'{{"type":"set","path":".w","value":{fd}}}') for fd in socks}
    poll = select.epoll()
    took_ms: list[float] = []
    sent: dict[int, float] = {}
    clock = time.perf_counter
    try:
        for fd, sock in socks.items():
            poll.register(fd, select.EPOLLIN)
            sent[fd] = clock()
            sock.send(frames[fd])
        began = clock()
        until = began + seconds
        while clock() < until:
            for fd, _ in poll.poll(1):
                socks[fd].recv(65536)
                now = clock()
                took_ms.append((now - sent[fd]) * 1000)
                sent[fd] = now
                socks[fd].send(frames[fd])
        return Answers(took_ms, clock() - began)
    finally:
        poll.close()
        for sock in socks.values():
            sock.close()


class Paced:
    """One that writes `per_s` a second, whatever the answers do; each answer names its write."""

    def __init__(self, port: int, per_s: int) -> None:
        self._sock = connect(port)
        self._step_s = 1 / per_s
        self._number = 0

    def run(self, seconds: float, *, until: object = None) -> Answers:
        """For so long, or until `until()` says so. Then all answers are waited for."""
        self._sock.setblocking(False)
        clock = time.perf_counter
        sent: list[float] = []
        took_ms: list[float] = []
        data = b""
        began = clock()
        while True:
            now = clock()
            is_over = now - began > seconds or (callable(until) and until())
            if is_over and len(took_ms) == len(sent):
                break
            while not is_over and began + len(sent) * self._step_s <= now:
                self._number += 1
                text = (
                    f'{{"type":"set","path":".paced","value":{self._number},"ref":{self._number}}}'
                )
                sent.append(clock())
                self._sock.send(frame(text))
            if select.select([self._sock], [], [], self._step_s / 2)[0]:
                data += self._sock.recv(1 << 20)
                # Answers come in the order of the writes: it is enough to count them.
                count = data.count(b'"ok"')
                now = clock()
                took_ms += [(now - at) * 1000 for at in sent[len(took_ms) : len(took_ms) + count]]
                data = data[data.rfind(b'"ok"') + 4 :] if count else data
        return Answers(took_ms, clock() - began)

    def close(self) -> None:
        """End it."""
        self._sock.close()
