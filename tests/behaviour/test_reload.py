"""SIGHUP: limits change while clients are connected, or stay as they were."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from .server import Lane, Server

DEADLINE_S = 10.0


@pytest.fixture
def server(lane: Lane, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "triode.toml").write_text('http_rate = "0"')
    server = Server(lane, {}, tmp_path)
    server.start()
    yield server
    server.stop()


def hang_up(server: Server) -> None:
    """To the process that serves: Hypercorn's own restarts its workers."""
    os.kill(server.processes()[-1].pid, signal.SIGHUP)


def statuses(server: Server, count: int = 3) -> list[int]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    found = []
    for _ in range(count):
        connection.request("GET", "/store?path=.")
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
    connection.close()
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_limits_change_or_all_stays(server: Server) -> None:
    config = server.home / "triode.toml"
    stream = HTTPConnection("127.0.0.1", server.port, timeout=10)
    stream.request("GET", "/events?filter=.")
    events = stream.getresponse()
    assert events.status == 200
    assert statuses(server) == [200, 200, 200]

    config.write_text('http_rate = "0.001/1"\nmax_rooms = "many"')
    hang_up(server)
    wait_until(lambda: "everything stays as it was" in server.log())
    assert "max_rooms" in server.log()
    assert statuses(server) == [200, 200, 200]

    config.write_text('http_rate = "0.001/1"')
    hang_up(server)
    wait_until(lambda: 429 in statuses(server))

    config.write_text('http_rate = "0"')
    hang_up(server)
    wait_until(lambda: statuses(server) == [200, 200, 200])
    put = HTTPConnection("127.0.0.1", server.port, timeout=10)
    put.request("PUT", "/store?path=.a", "1", {"Content-Type": "application/json"})
    assert put.getresponse().status == 200
    while b'"path":".a"' not in (line := events.readline()):
        assert line  # the stream has not ended
    put.close()
    stream.close()
