"""The examples, run as their readers would run them: processes of their own, over real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from app.sse_parser import Parser
from store.value import decode

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 30
# The reader's own application with one more route, which is broken.
BROKEN = """
from examples.embedded import app

@app.get("/broken")
async def broken() -> str:
    raise RuntimeError("the board's own fault")
"""


@pytest.fixture(params=["python -m", "hypercorn"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a running sensor board; it must end in order, and within 10 s."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "broken.py").write_text(textwrap.dedent(BROKEN))
    args = ["-m", "examples.embedded"]
    if request.param == "hypercorn":
        args = ["-m", "hypercorn", "-k", "trio", "--bind", f"127.0.0.1:{port}", "broken:app"]
    env = os.environ | {"PORT": str(port), "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *args], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        process.wait(10)
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def visiting(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that may still be starting."""
    async with httpx.AsyncClient(base_url=address, timeout=5) as client:
        with trio.fail_after(DEADLINE_S):
            while True:
                try:
                    await client.get("/live/healthz")
                    break
                except httpx.ConnectError:
                    await trio.sleep(0.05)
            yield client


async def events(client: httpx.AsyncClient, query: str) -> AsyncIterator[tuple[str, Any]]:
    """The types and bodies of what a stream sends."""
    raise NotImplementedError
