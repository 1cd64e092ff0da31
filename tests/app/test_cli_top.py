"""`triode top` and `triode tail`: what admins see."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from rich.console import Console, RenderableType

from tests.app.fake_server import FakeServer, problem
from triode.app.cli.event_line import EventPrinter
from triode.app.cli.tail import EARLIER, follow_ends, newer
from triode.app.cli.top_scene import TopScene
from triode.app.remote.http_client import HttpClient, Refused


def client(client_id: str, /, **members: Any) -> dict[str, Any]:
    return {
        "client": client_id, "transport": "sse", "lane": "native", "ip": "10.0.0.1", "name": None,
        "tags": {}, "rooms": [], "filters": [{"filter": ".a", "policy": "latest"}],
        "state": "flowing", "queued": 0, "queued_bytes": 0, "oldest_s": 0.0, "connected_s": 61.0,
        "sent": 0, "sent_bytes": 0, "dropped": 0, "drops": {}, "heals": 0,
    } | members  # fmt: skip


def stats(*clients: dict[str, Any], uptime_s: float = 10.0, cpu_s: float = 0.0) -> dict[str, Any]:
    return {
        "position": "e:7",
        "counters": {"drops_total": {"drop-newest": {"queue_full": 3}, "latest": {"x": 2, "y": 2}}},
        "rates": {"events_total": 12_345.0, "bytes_out": 2048.0, "writes_total": 7.25},
        "gauges": {
            "clients": 12, "clients_slow": 1, "queued_bytes": 3_000_000, "rooms": 2, "filters": 5,
            "uptime_seconds": uptime_s, "cpu_seconds_total": cpu_s, "memory_rss_bytes": 50 << 20,
            "loop_lag_seconds": 0.0012, "document_bytes": 999,
        },
        "clients": list(clients),
    }  # fmt: skip


def text_of(picture: RenderableType, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(picture, end="")
    return console.export_text().splitlines()


def scene_of(*answers: dict[str, Any]) -> TopScene:
    scene = TopScene("http://h")
    for answer in answers:
        scene.take(json.dumps(answer).encode())
    return scene


def row_of(lines: list[str], name: str) -> str:
    (found,) = [line for line in lines if line.startswith(name)]
    return found


def test_the_picture_has_the_numbers_and_a_row_for_each() -> None:
    slow = client(
        "c_slow", transport="websocket", name="ada", state="slow", queued=7, queued_bytes=2048,
        oldest_s=3.25, dropped=9, rooms=["chat"],
    )  # fmt: skip
    lines = text_of(scene_of(stats(slow, client("c_ok"))).draw(160, 24), 160, 24)
    assert len(lines) == 24
    head = "\n".join(lines[:6])
    for part in ("http://h", "12.3k/s", "2.0 KiB/s", "50.0 MiB", "1.2 ms", "e:7", "2.9 MiB"):
        assert part in head
    assert "lost     7" in head
    words = " ".join(row_of(lines, "c_slow").split())
    assert words == "c_slow ada 10.0.0.1 ws slow 7 / 2.0 KiB 3.2 s 9 1m 1s .a #chat"
    assert lines.index(row_of(lines, "c_slow")) < lines.index(row_of(lines, "c_ok"))


@pytest.mark.parametrize(("width", "height"), [(20, 8), (80, 24), (130, 10), (200, 60)])
def test_the_picture_fits(width: int, height: int) -> None:
    scene = scene_of(stats(*(client(f"c_{number}") for number in range(100))))
    lines = text_of(scene.draw(width, height), width, height)
    assert len(lines) <= max(height, 10)  # the head alone is not cut
    assert all(len(line) <= width for line in lines)


def test_rates_are_from_one_answer_to_the_next() -> None:
    scene = scene_of(
        stats(client("c_1", sent=100, sent_bytes=0), uptime_s=10, cpu_s=1.0),
        stats(client("c_1", sent=120, sent_bytes=4000), client("c_2"), uptime_s=12, cpu_s=1.5),
    )
    assert scene.cpu_percent == 25
    assert [(row["sent_s"], row["bytes_s"]) for row in scene.rows] == [(10, 2000), (None, None)]
    # A server that was started anew is no negative rate.
    scene.take(json.dumps(stats(client("c_1", sent=1), uptime_s=1, cpu_s=0.1)).encode())
    assert scene.rows[0]["sent_s"] is None
    assert scene.cpu_percent == 25


def test_keys_sort_and_scroll() -> None:
    rows = [client(f"c_{age}", connected_s=age) for age in (1, 3, 2)]
    scene = scene_of(stats(*rows))

    def order() -> list[str]:
        return [str(row["client"]) for row in scene.sorted_rows()]

    assert order() == ["c_1", "c_3", "c_2"]
    scene.press("s")
    scene.press("s")
    assert order() == ["c_3", "c_2", "c_1"]
    height = 10  # room for two rows
    assert "1 to 2 of 3" in text_of(scene.draw(120, height), 120, height)[-1]
    scene.press("end")
    assert "2 to 3 of 3" in text_of(scene.draw(120, height), 120, height)[-1]


def test_a_server_that_lists_no_clients_says_so() -> None:
    answer = stats()
    del answer["clients"]
    assert "does not list" in text_of(scene_of(answer).draw(120, 20), 120, 20)[-1]


def test_a_client_cannot_draw_on_the_terminal() -> None:
    row = client("c_1", name="\x1b[2J\nx", tags={"name": "y"}, ip="\u202e1", rooms=["a\x9bb"])
    lines = "\n".join(text_of(scene_of(stats(row)).draw(160, 20), 160, 20))
    assert not {"\x1b", "\u202e", "\x9b"} & set(lines)


def test_into_a_pipe_it_is_one_look() -> None:
    server = FakeServer(httpx.Response(200, json=stats(client("c_1"))))
    result = server.triode("top", "--slow", "--limit", "7")
    assert server.asked == ("GET", "/stats?clients=slow&limit=7")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "c_1" in result.stdout


def test_as_json_each_look_is_a_line() -> None:
    server = FakeServer(httpx.Response(200, json=stats(client("c_1"))))
    result = server.triode("top", "--json", "--count", "2", "--interval", "0.1")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["clients"][0]["client"] for line in lines] == ["c_1", "c_1"]


@pytest.mark.parametrize("arguments", [["top"], ["tail", "--ends"]])
def test_who_is_no_admin_is_told(arguments: list[str]) -> None:
    result = FakeServer(problem(403, "no")).triode(*arguments)
    assert result.exit_code == 1
    assert "token new --admin" in result.stderr
    assert "Traceback" not in result.output


# ---- tail ----


def end(name: str, time: int = 0) -> dict[str, Any]:
    return {
        "time": time,
        "client": name,
        "transport": "sse",
        "reason": "slow",
        "ip": "10.0.0.1",
    }


def test_what_is_new_in_a_log_of_ends() -> None:
    log = [end("c_3"), end("c_2"), end("c_1")]
    assert newer(log, []) == log
    assert newer(log, log[1:]) == log[:1]
    assert newer(log, log) == []
    # the time of an entry is said anew at each look, and rounded
    assert newer(log, [end("c_2", time=1)]) == log[:1]
    # so many ended that the last one known is no longer in the log
    assert newer(log, [end("c_0")]) == log


async def test_ends_are_printed_once_and_in_order(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    log = [end(f"c_{number}") for number in range(EARLIER + 5)]
    answers: list[httpx.Response] = [
        httpx.Response(200, json={"ends_log": log}),
        httpx.Response(503, json={}),
        httpx.Response(404, text="a proxy's"),
        httpx.Response(200, json={"ends_log": [end("c_y"), end("c_x"), *log]}),
        problem(403, "enough"),
    ]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    async with HttpClient("http://h", None, transport=transport) as server:
        with pytest.raises(Refused):
            await follow_ends(server, EventPrinter(as_json=True))
    printed = [json.loads(line)["client"] for line in capsys.readouterr().out.splitlines()]
    assert printed == [f"c_{number}" for number in reversed(range(EARLIER))] + ["c_x", "c_y"]


def test_tail_asks_for_what_it_was_told() -> None:
    server = FakeServer(problem(403, "no"))
    server.triode("tail", ".a", "--room", "r", "--changes", "--policy", "latest")
    assert server.asked == ("GET", "/events?filter=.a&room=r&snapshot=none&policy=latest")
