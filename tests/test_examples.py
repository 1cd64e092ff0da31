"""The embedded example, run as its readers run it: a process of its own, over real sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.sse import open_sse
from tests.running_example import running, until, visiting

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
    with running([sys.executable, "-m", *args], tmp_path):
        yield port


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
