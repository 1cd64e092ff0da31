"""HTTP/2 as hostile peers speak it: what it may cost is bounded, as in nghttp2 and Envoy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeVar

import h2.connection
import h2.events
import h2.settings
import pytest
import trio

from .clients import Api, eventually, open_api, open_socket
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio

Event = TypeVar("Event", bound=h2.events.Event)

MIB = 2**20
PROTOCOL_ERROR = 1
ENHANCE_YOUR_CALM = 11
DATA, HEADERS, PRIORITY, SETTINGS, PING, CONTINUATION = 0, 1, 2, 4, 6, 9
UNKNOWN = 0x99


def frame(kind: int, payload: bytes = b"", *, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, 0)) + stream.to_bytes(4, "big") + payload


class Http2Client:
    """A client with prior knowledge that also says what no library would."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.h2 = h2.connection.H2Connection()
        self._stream = stream

    async def send(self, more: bytes = b"") -> None:
        await self._stream.send_all(self.h2.data_to_send() + more)

    def get(
        self,
        stream: int,
        path: str,
        more: Mapping[str, str | bytes | None] | None = None,
        *,
        end: bool = True,
        lines: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Ask; `more` has other fields, and None for those to leave out; `lines` come behind."""
        head: dict[str, str | bytes | None] = {
            ":method": "GET",
            ":path": path,
            ":authority": "localhost",
            ":scheme": "http",
        }
        fields = [
            (name, value) for name, value in (head | dict(more or {})).items() if value is not None
        ]
        fields += lines
        self.h2.config.validate_outbound_headers = self.h2.config.normalize_outbound_headers = False
        self.h2.send_headers(stream, fields, end_stream=end)

    async def receive(self) -> list[h2.events.Event]:
        """What comes next; nothing at the end of the connection."""
        data = b""
        with contextlib.suppress(trio.BrokenResourceError):
            data = await self._stream.receive_some()
        if not data:
            return []
        events = self.h2.receive_data(data)
        with contextlib.suppress(trio.BrokenResourceError):
            await self.send()
        return events or await self.receive()

    async def until_ended(self) -> int | None:
        """The code of the end; None: the connection just ended."""
        with trio.fail_after(10):
            while events := await self.receive():
                for event in events:
                    if isinstance(event, h2.events.ConnectionTerminated):
                        code = event.error_code
                        return None if code is None else int(code)
        return None

    async def until(self, kind: type[Event]) -> Event:
        """The next event of this kind."""
        with trio.fail_after(10):
            while events := await self.receive():
                for event in events:
                    if isinstance(event, kind):
                        return event
        raise AssertionError("the connection has ended")

    async def pong(self) -> None:
        """Ping, and wait for the answer."""
        self.h2.ping(b"12345678")
        await self.send()
        await self.until(h2.events.PingAckReceived)


@contextlib.asynccontextmanager
async def open_http2(server: Server, window: int = 65_535) -> AsyncIterator[Http2Client]:
    async with open_socket(server) as stream:
        client = Http2Client(stream)
        client.h2.local_settings = h2.settings.Settings(
            initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        client.h2.initiate_connection()
        await client.send()
        yield client


async def counter(api: Api, name: str) -> int:
    counters: dict[str, int] = (await api.request("GET", "/stats")).json()["counters"]
    return counters[name]


async def ends(api: Api) -> dict[str, int]:
    """How many clients have ended, by reason."""
    stats = (await api.request("GET", "/stats")).json()
    found: dict[str, int] = stats["counters"]["ends_total"]
    return found


async def floods(api: Api) -> int:
    return await counter(api, "http2_floods_total")


async def clients_are(api: Api, wanted: int) -> None:
    """Wait until there are so many."""

    async def are_they() -> bool:
        stats = (await api.request("GET", "/stats")).json()
        return bool(stats["gauges"]["clients"] == wanted)

    await eventually(are_they)


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(frame(PING, b"12345678"), id="pings"),
        pytest.param(frame(SETTINGS), id="settings"),
        pytest.param(frame(DATA, stream=1), id="empty data"),
        pytest.param(frame(PRIORITY, bytes(5), stream=3), id="priorities"),
        pytest.param(frame(UNKNOWN), id="frames of a kind that nobody knows"),
    ],
)
async def test_frames_without_content_end_the_connection(
    server: Server, api: Api, flood: bytes
) -> None:
    before = await floods(api)
    async with open_http2(server) as client:
        client.get(1, "/store", {":method": "POST"}, end=False)
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send(flood * 1200)
        assert await client.until_ended() in (ENHANCE_YOUR_CALM, None)
    assert await floods(api) == before + 1


async def test_rapid_reset_ends_the_connection(make_server: ServerFactory) -> None:
    server = make_server(http2_rate="1/100")
    async with open_api(server) as api, open_http2(server) as client:
        with contextlib.suppress(trio.BrokenResourceError):
            for stream in range(1, 401, 2):
                client.get(stream, "/readyz")
                client.h2.reset_stream(stream)
                await client.send()
        assert await client.until_ended() in (ENHANCE_YOUR_CALM, None)
        assert await floods(api) == 1


async def test_a_head_without_end_ends_the_connection(server: Server) -> None:
    async with open_http2(server) as client:
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send(frame(HEADERS, bytes(8), stream=1))
            await client.send(frame(CONTINUATION, bytes(8), stream=1) * 100)
        assert await client.until_ended() in (PROTOCOL_ERROR, ENHANCE_YOUR_CALM, None)


async def test_who_asks_for_little_is_answered(server: Server) -> None:
    async with open_http2(server) as client:
        await client.send(frame(PING, b"abcdefgh") * 500)
        await client.pong()


async def test_data_after_the_answer_ends_nothing(server: Server) -> None:
    """It used to end the whole server on one lane, and the connection on the other."""
    async with open_http2(server) as client:
        client.get(1, "/store", {":method": "POST"}, end=False)
        client.h2.send_data(1, b"[1,")
        await client.send()
        answer = await client.until(h2.events.ResponseReceived)
        assert dict(answer.headers)[b":status"] == b"415"
        client.h2.send_data(1, b"2]", end_stream=True)
        await client.pong()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param({":path": b"/\xff"}, id="path"),
        pytest.param({":method": b"G\xcbT"}, id="method"),
        pytest.param({":method": b"CONNECT", ":path": None, ":scheme": None}, id="no path"),
    ],
)
async def test_a_head_that_makes_no_sense_resets_its_stream(
    server: Server, head: dict[str, bytes | None]
) -> None:
    async with open_http2(server) as client:
        client.get(1, "/readyz", head)
        await client.send()
        assert (await client.until(h2.events.StreamReset)).error_code == PROTOCOL_ERROR
        client.get(3, "/readyz")
        await client.send()
        await client.until(h2.events.StreamEnded)


async def test_a_peer_that_reads_nothing_at_all_is_ended(make_server: ServerFactory) -> None:
    server = make_server(write_deadline="1s", send_buffer_bytes=16384)
    async with open_api(server) as api, open_http2(server, window=2**30) as client:
        await api.put(".big", "x" * 16 * MIB)
        client.h2.increment_flow_control_window(2**30)
        client.get(1, "/events?filter=.big")
        await client.send()

        await clients_are(api, 1)
        await clients_are(api, 0)
        assert (await ends(api))["write_timeout"] == 1
        await api.delete(".big")


async def test_a_reader_that_takes_nothing_meets_the_write_deadline(
    make_server: ServerFactory,
) -> None:
    """Its streams are reset, its connection goes on; what it does not take is not copied."""
    server = make_server(write_deadline="1s")
    streams = range(1, 81, 2)
    async with open_api(server) as api, open_http2(server, window=0) as client:
        await api.put(".big", "x" * 4 * MIB)
        await api.get(".big")
        before, before_ends = server.memory(), (await ends(api)).get("write_timeout", 0)
        for stream in streams:
            client.get(stream, "/events?filter=.big")
        await client.send()
        left, grown = set(streams), 0
        with trio.fail_after(15):
            while left:
                events = await client.receive()
                assert events
                grown = max(grown, server.memory() - before)
                left -= {e.stream_id for e in events if isinstance(e, h2.events.StreamReset)}
        assert grown < 40 * MIB
        await client.pong()
        assert await counter(api, "http2_stuck_total") >= len(streams)

        await clients_are(api, 0)
        assert (await ends(api))["write_timeout"] - before_ends == len(streams)
        await api.delete(".big")
