"""The examples with a page, each started by its one command: what they serve, and that it moves.

Their pages run in a real browser in tests/browser.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from tests.behaviour.sse import open_sse
from tests.running_example import EVENT_S, ROOT, port_in, running, until, visiting

EXAMPLES = ROOT / "examples"
SITES = ("dashboard", "chat", "prices", "jobs")


@contextmanager
def site(name: str, home: Path, **more: str) -> Iterator[int]:
    """The port of a running example."""
    with running([sys.executable, "-m", f"examples.{name}", "--port", "0"], home, **more) as log:
        yield port_in(log)
    text = log.read_text()
    assert "Traceback" not in text, text


@pytest.mark.parametrize("name", SITES)
async def test_the_page_is_served_with_all_it_needs(name: str, tmp_path: Path) -> None:
    with site(name, tmp_path) as port:
        async with visiting(port) as client:
            page = await client.get("/")
            assert page.status_code == 200
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert page.text == (EXAMPLES / f"{name}.html").read_text()
            for address in re.findall(r"""from '\./([^']+)'""", page.text):
                script = await client.get(f"/{address}")
                assert script.status_code == 200
                assert "javascript" in script.headers["content-type"]


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("*.html")), ids=lambda page: page.name)
def test_pages_need_nothing_from_elsewhere(page: Path) -> None:
    assert not re.findall(r"""(?:src|href)=["']?https?:""", page.read_text())


def test_the_dashboard_is_under_60_lines() -> None:
    assert len((EXAMPLES / "dashboard.html").read_text().splitlines()) < 60


async def test_the_dashboard_has_what_its_page_shows(tmp_path: Path) -> None:
    with site("dashboard", tmp_path) as port:
        async with visiting(port), open_sse(port, "/live/events?filter=.host") as stream:
            await until(stream, "update", ".host.cpu")
            await until(stream, "update", ".host.processes")
            async with visiting(port) as client:
                host = (await client.get("/live/store?path=.host")).json()
    assert {"busy"} <= host["cpu"][0].keys()
    assert {"used", "total", "percent"} <= host["memory"].keys()
    assert {"total", "percent"} <= host["disks"]["/"].keys()
    assert {"received_bytes_s", "sent_bytes_s"} <= next(iter(host["net"].values())).keys()
    assert {"name", "cpu", "rss"} <= host["processes"][0].keys()


# ---- prices ----


async def test_prices_move_and_the_view_stays_exact(tmp_path: Path) -> None:
    route = "/live/events?filter=.prices.*&policy=latest"
    with site("prices", tmp_path) as port:
        async with visiting(port) as client, open_sse(port, route) as stream:
            first = await until(stream, "snapshot")
            board = {item["path"]: item["value"] for item in first["items"]}
            assert len(board) == 500
            changed: set[str] = set()
            with trio.fail_after(EVENT_S):
                while len(changed) < 200:
                    frame = (await stream.next()).frame()
                    assert frame["type"] == "update"
                    assert frame["path"] in board
                    assert frame["value"] > 0
                    changed.add(frame["path"])
            assert len((await client.get("/live/store?path=.prices")).json()) == 500


# ---- chat ----


@asynccontextmanager
async def chatting(port: int, name: str, room: str) -> AsyncIterator[WebSocketConnection]:
    """Somebody in a room of the chat, as its page would be."""
    url = f"ws://127.0.0.1:{port}/live/ws?tag.name={name}&room={room}"
    async with open_websocket_url(url) as socket:
        assert json.loads(await socket.get_message())["type"] == "connected"
        yield socket


async def presence(client: httpx.AsyncClient, wanted: dict[str, list[str]]) -> None:
    """Wait until these people are in these rooms, and nobody else."""
    with trio.fail_after(EVENT_S):
        while True:
            rooms = (await client.get("/live/store?path=.rooms")).json()
            if {name: sorted(people.values()) for name, people in rooms.items()} == wanted:
                return
            await trio.sleep(0.05)


async def test_the_chat_knows_who_is_there(tmp_path: Path) -> None:
    with site("chat", tmp_path) as port:
        async with visiting(port) as client:
            async with chatting(port, "Ada", "lobby") as ada:
                async with chatting(port, "Bob", "lobby"), chatting(port, "Cy", "tea"):
                    await presence(client, {"lobby": ["Ada", "Bob"], "tea": ["Cy"]})
                await presence(client, {"lobby": ["Ada"]})
                await ada.send_message(json.dumps({"type": "leave", "room": "lobby"}))
                await presence(client, {})


async def test_what_is_said_is_heard_in_its_room_only(tmp_path: Path) -> None:
    with site("chat", tmp_path) as port:
        async with (
            visiting(port) as client,
            chatting(port, "Ada", "lobby") as ada,
            chatting(port, "Bob", "lobby") as bob,
            chatting(port, "Cy", "tea") as cy,
        ):
            await presence(client, {"lobby": ["Ada", "Bob"], "tea": ["Cy"]})
            people = (await client.get("/live/store?path=.rooms.lobby")).json()
            for room in ("lobby", "tea"):
                say = {"type": "publish", "room": room, "event": "say", "data": f"hi {room}"}
                await ada.send_message(json.dumps(say))
            with trio.fail_after(EVENT_S):
                heard = json.loads(await bob.get_message())
                assert (heard["data"], people[heard["from"]]) == ("hi lobby", "Ada")
                # and Cy's first is what was said in the other room
                assert json.loads(await cy.get_message())["data"] == "hi tea"


# ---- jobs ----


async def test_jobs_are_queued_run_and_done(tmp_path: Path) -> None:
    with site("jobs", tmp_path) as port:
        async with visiting(port) as client, open_sse(port, "/live/events?filter=.jobs") as stream:
            await until(stream, "snapshot")
            queued = await client.post("/jobs", json={"name": "a", "steps": 3})
            assert (queued.status_code, queued.json()) == (202, {"id": "j1"})
            begin = await until(stream, "update", ".jobs.j1")
            assert begin["value"] == {"name": "a", "state": "queued", "done": 0, "steps": 3}
            seen: list[Any] = [(await until(stream, "update"))["value"] for _ in range(5)]
            assert seen == ["running", 1, 2, 3, "done"]


async def test_jobs_are_cancelled_also_before_they_run(tmp_path: Path) -> None:
    with site("jobs", tmp_path) as port:
        async with visiting(port) as client, open_sse(port, "/live/events?filter=.jobs") as stream:
            await until(stream, "snapshot")
            for _ in range(4):  # three workers: the last one waits
                await client.post("/jobs", json={"name": "long", "steps": 1000})
            await until(stream, "update", ".jobs.j1.done")
            for job in ("j4", "j1"):
                assert (await client.delete(f"/jobs/{job}")).status_code == 202
            states: dict[str, str] = {}
            with trio.fail_after(EVENT_S):
                while len(states) < 2:
                    frame = await until(stream, "update")
                    if frame["value"] == "cancelled":
                        states[frame["path"]] = frame["value"]
            assert states.keys() == {".jobs.j1.state", ".jobs.j4.state"}
            assert (await client.delete("/jobs/j1")).status_code == 404
            assert (await client.get("/live/store?path=.jobs.j4.done")).json() == 0


@pytest.mark.parametrize(
    "asked", [{"name": "x", "steps": 0}, {"name": "x", "steps": "many"}, {"steps": 1}, [], 7]
)
async def test_a_job_that_makes_no_sense_is_refused(asked: Any, tmp_path: Path) -> None:
    with site("jobs", tmp_path) as port:
        async with visiting(port) as client:
            answer = await client.post("/jobs", json=asked)
            assert answer.status_code == 400
            assert (await client.get("/live/store?path=.jobs")).json() == {}


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    with site("jobs", tmp_path) as port:
        async with visiting(port) as client:
            answers = [
                (await client.post("/jobs", json={"name": "x", "steps": 1000})).status_code
                for _ in range(110)
            ]
            assert answers[:103] == [202] * 103  # three run, a hundred wait
            assert set(answers[103:]) == {503}
            assert len((await client.get("/live/store?path=.jobs")).json()) == 103


# ---- orders ----


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn")),
    reason="FastAPI and uvicorn are not installed (pip install triode[examples])",
)
async def test_a_fastapi_application_publishes(tmp_path: Path) -> None:
    with site("orders", tmp_path) as port:
        async with visiting(port, "/") as client:
            page = (await client.get("/")).text
            triode = re.search(r"EventSource\('http://127\.0\.0\.1:(\d+)(/events[^']*)'", page)
            assert triode is not None
            live = int(triode[1])
            async with open_sse(live, triode[2]) as stream:
                await until(stream, "snapshot")
                answer = await client.post("/orders", json={"item": "tea", "quantity": 2})
                assert answer.status_code == 201
                number = answer.json()["id"]
                placed = await until(stream, "update", f".orders.{number}")
                assert placed["value"] == {"item": "tea", "quantity": 2, "state": "placed"}
                message = await until(stream, "message")
                assert (message["event"], message["data"]["item"]) == ("placed", "tea")
                await client.post(f"/orders/{number}/ship")
                shipped = await until(stream, "update", f".orders.{number}.state")
                assert shipped["value"] == "shipped"
                assert (await until(stream, "message"))["event"] == "shipped"
            for refused in ("/orders/nobody/ship", '/orders/a"]b/ship'):
                assert (await client.post(refused)).status_code == 404
            assert (await client.post("/orders", json={"item": ""})).status_code == 422
            # The page is from another origin than Triode, and lets it in.
            async with visiting(live, "/healthz") as direct:
                origin = {"Origin": f"http://127.0.0.1:{port}"}
                answer = await direct.get("/store?path=.orders", headers=origin)
                allowed = answer.headers.get("Access-Control-Allow-Origin")
                assert allowed == origin["Origin"]
    # Its own Triode has ended with it.
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{live}/healthz")
