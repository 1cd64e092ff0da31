"""What systemd is told, over a socket as it opens one; and its unit, read by its own tools."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from triode.app.config.settings import Settings
from triode.app.runtime import supervisor
from triode.app.serve import serve

UNITS = Path(__file__).resolve().parents[2] / "docs" / "systemd"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The supervisor's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def all_of(sock: socket.socket) -> list[str]:
    """What has come."""
    sock.setblocking(False)
    found = []
    while True:
        try:
            found.append(sock.recv(4096).decode())
        except BlockingIOError:
            return found


async def next_of(sock: socket.socket) -> str:
    sock.setblocking(False)
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(sock)
    return sock.recv(4096).decode()


async def test_a_server_says_where_it_is_in_its_life(
    told: socket.socket, nursery: trio.Nursery
) -> None:
    settings = Settings(port=0)
    ended = trio.Event()

    async def run(*, task_status: trio.TaskStatus[object]) -> None:  # noqa: ASYNC128 # `serve` does
        await serve(settings, reread=lambda: settings, task_status=task_status)
        ended.set()

    await nursery.start(run)
    assert await next_of(told) == "READY=1\nSTATUS=serving"
    os.kill(os.getpid(), signal.SIGHUP)
    name, _, usec = (await next_of(told)).rpartition("=")
    assert name == "RELOADING=1\nMONOTONIC_USEC"
    assert usec.isdecimal()
    assert await next_of(told) == "READY=1\nSTATUS=serving"
    os.kill(os.getpid(), signal.SIGTERM)
    assert await next_of(told) == "STOPPING=1\nSTATUS=draining"
    await ended.wait()
    assert all_of(told) == []


async def test_the_watchdog_hears_from_us_twice_as_often_as_it_asks(
    told: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    nursery.start_soon(supervisor.keep_awake)
    await trio.sleep(100)
    assert all_of(told) == ["WATCHDOG=1"] * 7  # at 0, 15, … 90
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("usec", "pid"), [("", ""), ("0", ""), ("1e9", ""), ("30000000", "1")])
async def test_no_watchdog_or_that_of_another(
    told: socket.socket, monkeypatch: pytest.MonkeyPatch, usec: str, pid: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    with trio.fail_after(5):
        await supervisor.keep_awake()
    assert all_of(told) == []


def test_a_long_start_asks_for_time(told: socket.socket) -> None:
    supervisor.starting("reading a snapshot, 40 %", 30.0)
    [said] = all_of(told)
    assert said == "STATUS=starting: reading a snapshot, 40 %\nEXTEND_TIMEOUT_USEC=30000000"


def test_a_socket_without_a_name_in_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"triode-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        supervisor.ending()
        assert all_of(sock) == ["STOPPING=1\nSTATUS=draining"]


@pytest.mark.parametrize("address", ["", "vsock:2:1", "/nobody/listens"])
def test_who_does_not_listen_is_told_nothing(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    supervisor.serving()


def test_who_listens_no_more_holds_nobody(told: socket.socket) -> None:
    for _ in range(10_000):  # its buffer is full long before
        supervisor.tell("WATCHDOG=1")
    assert all_of(told)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_right_and_safe(tmp_path: Path) -> None:
    for name in ("triode.service", "triode.socket"):
        text = (UNITS / name).read_text()
        # It looks whether the program is there.
        (tmp_path / name).write_text(text.replace("/opt/triode/bin/triode", "/bin/true"))
    run = partial(subprocess.run, capture_output=True, text=True, check=False, timeout=60)
    units = [str(tmp_path / name) for name in ("triode.service", "triode.socket")]
    verified = run(["systemd-analyze", "verify", *units])
    assert (verified.returncode, verified.stderr) == (0, "")
    safe = run(["systemd-analyze", "security", "--offline=true", "--threshold=20", units[0]])
    assert safe.returncode == 0, safe.stdout[-300:]
