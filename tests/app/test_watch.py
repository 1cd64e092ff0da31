"""Event streams: the parser, and a watch that survives its connections, on a clock of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from triode.app.remote.http_client import CannotConnect, HttpClient, Refused, Watch
from triode.app.wire.sse_parser import SseParser, StreamEvent

CONNECTED = b'event: connected\ndata: {"client":"c","resumed":false,"heartbeat_s":5}\n\n'
HEARTBEAT = b": \n\n"


def update(seq: int) -> bytes:
    return b'event: update\nid: e:%d\ndata: {"path":".a"}\n\n' % seq


def parse(*chunks: bytes) -> list[StreamEvent]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_an_event_has_a_type_data_and_the_id_so_far() -> None:
    assert parse(b"event: a\nid: 1\ndata: x\ndata:y\n\n", b"data: z\n\n") == [
        StreamEvent("a", "x\ny", "1"),
        StreamEvent("message", "z", "1"),
    ]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"\xef\xbb\xbfdata: x\n\n", [("message", "x", "")]),
        (b"data: x\r\rdata: y\r\n\r\n", [("message", "x", ""), ("message", "y", "")]),
        (b": heartbeat\n\n", []),
        (b"event: a\n\n", []),
        (b"data\n\n", [("message", "", "")]),
        (b"data:  x\n\n", [("message", " x", "")]),
        (b"id: a\0b\ndata: x\n\n", [("message", "x", "")]),
        (b"data: cut\n", []),
        (b"data: \xff\n\n", [("message", "\ufffd", "")]),
        ("data: \u2028\n\n".encode(), [("message", "\u2028", "")]),
        (b"unknown: x\ndata: x\n\n", [("message", "x", "")]),
    ],
)
def test_the_letter_of_the_standard(stream: bytes, events: list[tuple[str, str, str]]) -> None:
    assert parse(stream) == [StreamEvent(*event) for event in events]


@given(st.lists(st.integers(0, 80), max_size=6))
def test_how_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    stream = (
        "id: 1\r\nevent: é\r\ndata: a\r\ndata: 𝄞\r\n\r\n: c\n\ndata: b\r\rretry: 7\n\n".encode()
    )
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert parse(*pieces) == parse(stream)


def test_an_id_counts_with_its_whole_event() -> None:
    parser = SseParser("e:1")
    parser.feed(b"id: e:2\ndata: half")
    assert parser.last_id == "e:1"


class Script:
    """A server that gives each connection its next answer: bytes to stream, or a refusal."""

    def __init__(self, *answers: Iterable[bytes | float] | httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[float, httpx.Request]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((trio.current_time(), request))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else stream(answer)


class Stream(httpx.AsyncByteStream):
    def __init__(self, parts: Iterable[bytes | float]) -> None:
        self.parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, bytes):
                await trio.lowlevel.checkpoint()
                yield part
            elif part < 0:
                raise httpx.ReadError("reset")
            else:
                await trio.sleep(part)


def stream(parts: Iterable[bytes | float]) -> httpx.Response:
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    return httpx.Response(200, stream=Stream(parts), headers=headers)


def final() -> httpx.Response:
    problem = {"title": "Not allowed", "detail": "the end of the test"}
    return httpx.Response(403, json=problem, headers={"Triode": "refused"})


class Run:
    """A watch run against a script, until the script refuses."""

    def __init__(self, script: Script, params: list[tuple[str, str]] | None = None) -> None:
        self.script = script
        self.params = params or []
        self.events: list[StreamEvent] = []
        self.notices: list[str] = []

    async def to_the_end(self) -> Exception:
        transport = httpx.MockTransport(self.script)
        async with HttpClient("http://h", None, transport=transport) as client:
            watch = Watch(client, self.params, notice=self.notices.append)
            with pytest.raises((Refused, CannotConnect)) as caught:
                await watch.run(self.events.append)
        return caught.value

    @property
    def delays_s(self) -> list[float]:
        """From one connection to the next."""
        times = [at for at, _ in self.script.requests]
        return [b - a for a, b in pairwise(times)]

    def resumed_from(self) -> list[str | None]:
        return [request.headers.get("Last-Event-ID") for _, request in self.script.requests]


async def test_it_goes_on_where_it_was(autojump_clock: trio.testing.MockClock) -> None:
    run = Run(Script([CONNECTED, update(1), update(2)], [CONNECTED, update(3), -1], final()))
    await run.to_the_end()
    assert [event.id for event in run.events if event.type == "update"] == ["e:1", "e:2", "e:3"]
    assert run.resumed_from() == [None, "e:2", "e:3"]
    assert "connected again" in run.notices


async def test_since_is_for_the_first_connection(autojump_clock: trio.testing.MockClock) -> None:
    params = [("filter", ".a"), ("since", "e:0")]
    run = Run(Script([CONNECTED, update(1)], final()), params)
    await run.to_the_end()
    queries = [request.url.query for _, request in run.script.requests]
    assert queries == [b"filter=.a&since=e%3A0", b"filter=.a"]


async def test_the_first_connection_is_not_retried(autojump_clock: trio.testing.MockClock) -> None:
    for first in (httpx.ConnectError("no"), httpx.Response(503, json={})):
        run = Run(Script(first))
        await run.to_the_end()
        assert len(run.script.requests) == 1


async def test_what_a_proxy_says_at_a_reconnect_is_not_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    page = {"Content-Type": "text/html"}
    answers = [httpx.Response(status, text="<p>no") for status in (404, 403, 302, 521)]
    run = Run(
        Script([CONNECTED], *answers, httpx.Response(200, headers=page), [CONNECTED], final())
    )
    error = await run.to_the_end()
    assert "the end of the test" in str(error)
    assert len(run.script.requests) == 8


@pytest.mark.parametrize(("status", "what"), [(404, "problem object"), (200, "event stream")])
async def test_what_is_no_triode_at_first_is_said(
    status: int, what: str, autojump_clock: trio.testing.MockClock
) -> None:
    run = Run(
        Script(httpx.Response(status, text="<p>hello", headers={"Content-Type": "text/html"}))
    )
    assert f"and no {what}; is this a Triode?" in str(await run.to_the_end())
    assert len(run.script.requests) == 1


async def test_waits_grow_to_a_bound(autojump_clock: trio.testing.MockClock) -> None:
    down = [httpx.ConnectError("no") for _ in range(12)]
    run = Run(Script([CONNECTED], *down, final()))
    await run.to_the_end()
    assert 0.25 <= run.delays_s[0] <= 0.5
    assert all(15 <= delay_s <= 30 for delay_s in run.delays_s[-3:])


async def test_a_connection_resets_the_waits(autojump_clock: trio.testing.MockClock) -> None:
    down = [httpx.ConnectError("no") for _ in range(8)]
    run = Run(Script([CONNECTED], *down, [CONNECTED], final()))
    await run.to_the_end()
    assert run.delays_s[-1] <= 0.5


async def test_heartbeats_keep_it_and_silence_ends_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    quiet = [CONNECTED, *[part for _ in range(20) for part in (10.0, HEARTBEAT)], 3600.0]
    run = Run(Script(quiet, final()))
    await run.to_the_end()
    # 20 heartbeats, late but there, then three times the 5 s that the server promised.
    assert 215 <= run.delays_s[0] <= 216
    assert "silent" in run.notices[0]


async def test_the_server_says_when_to_come_back(autojump_clock: trio.testing.MockClock) -> None:
    closing = b'event: closing\ndata: {"reason":"restart","retry_ms":4321}\n\n'
    busy = httpx.Response(503, headers={"Retry-After": "7"}, json={"title": "x", "detail": "y"})
    run = Run(Script([CONNECTED, closing], busy, final()))
    await run.to_the_end()
    assert run.delays_s == pytest.approx([4.321, 7])


async def test_retry_is_the_first_wait(autojump_clock: trio.testing.MockClock) -> None:
    run = Run(Script([b"retry: 3000\n\n", CONNECTED], final()))
    await run.to_the_end()
    assert 1.5 <= run.delays_s[0] <= 3


@pytest.mark.parametrize("reason", ["token_ended", "not_allowed", "rate"])
async def test_some_ends_are_final(reason: str, autojump_clock: trio.testing.MockClock) -> None:
    closing = b'event: closing\ndata: {"reason":"%s"}\n\n' % reason.encode()
    run = Run(Script([CONNECTED, closing, 3600.0]))
    error = await run.to_the_end()
    assert isinstance(error, Refused)
    assert reason in str(error)
