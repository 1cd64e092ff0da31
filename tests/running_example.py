"""Examples as processes of their own, and what their visitors do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.behaviour.sse import SseStream

ROOT = Path(__file__).resolve().parents[1]
START_S, EVENT_S, END_S = 30, 10, 10


@contextmanager
def running(command: list[str], home: Path, **more: str) -> Iterator[Path]:
    """A process in the folder `home`; its log. It must end in order."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("TRIODE_")}
    paths = os.pathsep.join([str(ROOT), str(home)])
    log = home / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**keep, "PYTHONPATH": paths, **more},
            stdout=out,
            stderr=out,
            # What runs in the background of a script inherits that it ignores interrupts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield log
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S / 4)
        except subprocess.TimeoutExpired:
            # Hypercorn is not ready for an interrupt that comes while it is sending: once more.
            process.send_signal(signal.SIGINT)
            process.wait(END_S)
    finally:
        process.kill()
        process.wait()


def port_in(log: Path) -> int:
    """The port that a log tells of, as soon as it does."""
    deadline = time.monotonic() + START_S
    while True:
        found = re.search(r"unning on http://127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            return int(found[1])
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@asynccontextmanager
async def visiting(port: int, probe: str = "/live/healthz") -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that may be starting still."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=START_S) as client:
        with trio.fail_after(START_S):
            while True:
                try:
                    await client.get(probe)
                    break
                except httpx.ConnectError:
                    await trio.sleep(0.05)
        yield client


async def until(stream: SseStream, event: str, path: str | None = None) -> Any:
    """The next event of that type, at that path if one is given."""
    with trio.fail_after(EVENT_S):
        while True:
            frame = (await stream.next()).frame()
            if frame["type"] == event and path in (None, frame.get("path")):
                return frame
