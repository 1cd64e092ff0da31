"""The examples, run as their readers run them: processes of their own, over real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.behaviour.sse import SseStream, open_sse

ROOT = Path(__file__).resolve().parents[1]
START_S, EVENT_S, END_S = 30, 10, 10
FILTERS, ROOM = "/live/events?filter=.sensors.*,.limits", "/live/events?room=alarms"
# The reader's application with one more route, which is broken.
BROKEN = """
from examples.embedded import app

@app.get("/broken")
async def broken() -> str:
    raise RuntimeError("the board's own fault")

if __name__ == "__main__":
    app.run(port=PORT)
"""


@pytest.fixture(params=["python", "hypercorn"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of a running sensor board. It must end in order."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "broken.py").write_text(BROKEN.replace("PORT", str(port)))
    hypercorn = ["hypercorn", "-k", "trio", "--bind", f"127.0.0.1:{port}", "broken:app"]
    args = ["broken"] if request.param == "python" else hypercorn
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *args],
            cwd=tmp_path,
            env=env,
            stdout=log,
            stderr=log,
            # What runs in the background of a script inherits that it ignores interrupts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield port
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


@asynccontextmanager
async def visiting(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that may be starting still."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=START_S) as client:
        with trio.fail_after(START_S):
            while True:
                try:
                    await client.get("/live/healthz")
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


async def test_what_the_board_writes_is_seen(board: int) -> None:
    async with visiting(board) as client, open_sse(board, FILTERS) as stream:
        assert (await until(stream, "snapshot"))["filter"] == ".sensors.*"
        limits = await until(stream, "snapshot")
        assert limits["items"] == [{"path": ".limits", "value": {"t1": 22}}]
        # by its background task
        assert isinstance((await until(stream, "update", ".sensors.t1"))["value"], float)
        assert isinstance((await until(stream, "update", ".sensors.t2"))["value"], float)
        # by its own route, and by Triode's
        answer = await client.post("/limits/t 2/-7")
        assert answer.status_code == 200
        assert (await until(stream, "update", '.limits["t 2"]'))["value"] == -7
        await client.put("/live/store", params={"path": ".limits.t1"}, json=99)
        assert (await until(stream, "update", ".limits.t1"))["value"] == 99
        document = (await client.get("/live/store", params={"path": "."})).json()
        assert document["limits"] == {"t1": 99, "t 2": -7}
        assert document["sensors"].keys() == {"t1", "t2"}


async def test_what_the_board_publishes_is_heard(board: int) -> None:
    async with visiting(board) as client, open_sse(board, ROOM) as stream:
        await until(stream, "connected")
        await client.post("/limits/t1/-273")
        message = await until(stream, "message")
        assert (message["room"], message["event"]) == ("alarms", "hot")
        assert message["data"].startswith("t1: ")


async def test_pages_and_errors_stay_whose_they_are(board: int) -> None:
    async with visiting(board) as client:
        page = await client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "live/events" in page.text
        # the board's own
        missing = await client.get("/nowhere")
        assert (missing.status_code, missing.text) == (
            404,
            "the sensor board has no page /nowhere\n",
        )
        for response, status in (
            (await client.get("/broken"), 500),
            (await client.get("/limits/t1/1"), 405),
        ):
            assert response.status_code == status
            assert response.headers["content-type"].startswith("text/html")
        # Triode's
        for response, status in (
            (await client.get("/live/store", params={"path": ".nowhere"}), 404),
            (await client.get("/live/store", params={"path": ".a["}), 400),
            (await client.get("/live/events", params={"filter": "nonsense"}), 400),
            (await client.put("/live/store", params={"path": ".x"}, content="{"), 415),
            (await client.post("/live/health"), 405),
        ):
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == status
