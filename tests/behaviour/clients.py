"""The other clients that the tests speak with: HTTP, `trio-websocket`, a bare WebSocket, a bare socket, and `watch`.

`watch` is a subscription on either transport that yields the same frames from both, so that one test body serves both.
Nothing here retries or forgives: a refusal that is not a problem object fails the test that caused it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import httpx
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from .server import Server
from .sse import PATIENCE_S, SseStream, open_sse

Frame = dict[str, Any]
TRANSPORTS = ("sse", "ws")


def query(filters: Iterable[str] = (), **options: Any) -> str:
    """`?filter=…&filter=…&name=value`, percent-encoded, a list repeats its name; "" when there is nothing."""
    text = urlencode({"filter": list(filters), **options}, doseq=True, quote_via=quote)
    return "?" + text if text else ""


class Api:
    """The HTTP side. Every answer from 400 on must be a problem object (RFC 9457), whoever asked."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """One request, checked to be well-formed if refused."""
        response = await self.client.request(method, url, **options)
        if response.status_code >= 400 and method != "HEAD":
            check_problem(response)
        return response

    async def get(self, path: str) -> Any:
        """The value at `path`; it must be there."""
        response = await self.request("GET", "/store", params={"path": path})
        assert response.status_code == 200, response.text
        return response.json()

    async def select(self, filter_text: str) -> list[dict[str, Any]]:
        """`GET /store?filter=`: the items."""
        response = await self.request("GET", "/store", params={"filter": filter_text})
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.json()
        assert isinstance(items, list)
        return items

    async def reset(self, document: Any) -> str:
        """`POST /store`: the whole document. Returns the position."""
        content = json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        return position(await self.request("POST", "/store", content=content, headers=headers))

    async def put(self, path: str, value: Any, **params: Any) -> str:
        """Set; returns the position."""
        content = json.dumps(value).encode()
        return position(await self.write("PUT", path, content, "application/json", **params))

    async def delete(self, path: str) -> str:
        """Remove; returns the position."""
        return position(await self.request("DELETE", "/store", params={"path": path}))

    async def merge(self, path: str, patch: Any) -> str:
        """RFC 7396; returns the position."""
        content = json.dumps(patch).encode()
        return position(await self.write("PATCH", path, content, "application/merge-patch+json"))

    async def patch(self, path: str, *operations: dict[str, Any]) -> str:
        """RFC 6902; returns the position."""
        content = json.dumps(operations).encode()
        return position(await self.write("PATCH", path, content, "application/json-patch+json"))

    async def write(
        self,
        method: str,
        path: str,
        content: bytes,
        content_type: str,
        *,
        headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> httpx.Response:
        """A write as bytes; not checked beyond the form of a refusal."""
        fields = {"Content-Type": content_type, **(headers or {})}
        parameters = {"path": path, **params}
        return await self.request(
            method, "/store", params=parameters, content=content, headers=fields
        )


def check_problem(response: httpx.Response) -> dict[str, Any]:
    """The refusal as an RFC 9457 object: `type`, `title`, `status`, `detail`."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    context = f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:300]!r}"
    assert kind == "application/problem+json", context
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code, context
    for member in ("type", "title", "detail"):
        assert isinstance(problem[member], str), context
        assert problem[member], context
    return problem


def position(response: httpx.Response) -> str:
    """The position that an accepted write answers with."""
    assert response.status_code == 200, f"{response.status_code} {response.text[:500]}"
    answer = response.json()
    text: str = answer["id"]
    sequence(text)
    return text


def sequence(text: str) -> int:
    """SEQ of `EPOCH:SEQ`."""
    epoch, colon, seq = text.rpartition(":")
    assert epoch, text
    assert colon, text
    assert seq.isdigit(), text
    return int(seq)


async def eventually(check: Callable[[], Awaitable[bool]], patience_s: float = 5.0) -> float:
    """Poll until `check` holds; seconds that it took. Raises `trio.TooSlowError` out of patience."""
    began = trio.current_time()
    with trio.fail_after(patience_s):
        while True:
            if await check():
                return trio.current_time() - began
            await trio.sleep(0.003)


@contextlib.asynccontextmanager
async def open_api(
    server: Server, *, token: str | None = None, source: str | None = None
) -> AsyncIterator[Api]:
    """An HTTP client with one kept-alive pool, presenting `token`, connecting from the address `source`."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    transport = httpx.AsyncHTTPTransport(local_address=source, verify=False)
    base = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(
        transport=transport, base_url=base, headers=headers, timeout=30.0
    ) as client:
        yield Api(client)


class Ws:
    """A WebSocket client that pairs answers with commands by `ref` and keeps all else in order for `next`."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self._refs = itertools.count(1)
        self._kept: deque[Frame] = deque()

    async def send(self, message: Any) -> None:
        """A message as it is: text or bytes, all else as JSON text."""
        raw = message if isinstance(message, str | bytes) else json.dumps(message)
        with trio.fail_after(PATIENCE_S):
            await self.connection.send_message(raw)

    async def ask(self, command: str, /, **members: Any) -> Frame:
        """Send a command and return its answer, whatever it is."""
        ref = members.setdefault("ref", f"r{next(self._refs)}")
        await self.send({"type": command, **members})
        return await self.answer(ref)

    async def answer(self, ref: Any) -> Frame:
        """The answer that carries `ref`; what comes before it is kept for `next`."""
        with trio.fail_after(PATIENCE_S):
            while True:
                frame = await self._receive()
                if "ref" in frame and frame["ref"] == ref and type(frame["ref"]) is type(ref):
                    return frame
                self._kept.append(frame)

    async def ok(self, command: str, /, **members: Any) -> Frame:
        """A command that must succeed."""
        answer = await self.ask(command, **members)
        assert answer["type"] == "ok", answer
        return answer

    async def refused(self, command: str, /, **members: Any) -> Frame:
        """A command that must fail with a problem object; the connection goes on."""
        answer = await self.ask(command, **members)
        return check_error(answer)

    async def next(self, patience_s: float = PATIENCE_S) -> Frame:
        """The next frame that is nobody's answer."""
        if self._kept:
            return self._kept.popleft()
        with trio.fail_after(patience_s):
            return await self._receive()

    async def closed(self) -> tuple[int, str]:
        """Read on until the server closes; code and reason."""
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    await self.connection.get_message()
                except ConnectionClosed as end:
                    assert end.reason is not None
                    return end.reason.code, end.reason.reason or ""

    async def _receive(self) -> Frame:
        message = await self.connection.get_message()
        assert isinstance(message, str), "frames are JSON text"
        frame: Frame = json.loads(message)
        assert isinstance(frame["type"], str)
        return frame


def check_error(frame: Frame) -> Frame:
    """An `error` frame with the members of a problem object."""
    assert frame["type"] == "error", frame
    assert isinstance(frame["status"], int), frame
    assert 400 <= frame["status"] < 600, frame
    assert frame["title"], frame
    assert frame["detail"], frame
    return frame


@contextlib.asynccontextmanager
async def open_ws(
    server: Server,
    target: str = "/ws",
    *,
    headers: Iterable[tuple[str, str]] = (),
    greet: bool = True,
    source: str = "127.0.0.1",
) -> AsyncIterator[Ws]:
    """Connect; with `greet` the first frame, `connected`, is taken and checked."""
    fields = [(name.encode(), value.encode()) for name, value in headers]
    async with open_socket(server, source=source) as stream:
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(PATIENCE_S):
                    connection = await wrap_client_stream(
                        nursery,
                        stream,
                        f"127.0.0.1:{server.port}",
                        target,
                        extra_headers=fields,
                        message_queue_size=10_000,
                        max_message_size=64 * 1024 * 1024,
                    )
                ws = Ws(connection)
                if greet:
                    first = await ws.next()
                    assert first["type"] == "connected", first
                yield ws
                with trio.move_on_after(5):
                    await connection.aclose()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only(group) from None


def only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in a group of one; else the group."""
    if len(group.exceptions) > 1:
        return group
    [one] = group.exceptions
    return only(one) if isinstance(one, BaseExceptionGroup) else one


class Watch:
    """One subscription connection, the same on both transports. `connected` is its first frame."""

    def __init__(self, transport: SseStream | Ws) -> None:
        self._transport = transport
        self.connected: Frame = {}
        self.last_id = ""

    async def next(self, patience_s: float = PATIENCE_S) -> Frame:
        """The next frame; remembers the last id, as a browser does."""
        if isinstance(self._transport, SseStream):
            frame = (await self._transport.next(patience_s)).frame()
        else:
            frame = await self._transport.next(patience_s)
        self.last_id = frame.get("id", self.last_id)
        return frame

    async def take(self, count: int) -> list[Frame]:
        """The next `count` frames."""
        return [await self.next() for _ in range(count)]

    async def snapshot(self) -> list[dict[str, Any]]:
        """The items of one whole snapshot, which must come next."""
        items: list[dict[str, Any]] = []
        while True:
            frame = await self.next()
            assert frame["type"] == "snapshot", frame
            items += frame["items"]
            if not frame["more"]:
                return items

    async def until(self, path: str, value: Any) -> list[Frame]:
        """The frames before the update that sets `path` to `value` (the fence of `Fence`)."""
        before: list[Frame] = []
        while True:
            frame = await self.next()
            if frame["type"] == "update" and (frame["path"], frame["value"]) == (path, value):
                return before
            before.append(frame)


Opened = TypeVar("Opened")


class Held(Generic[Opened]):
    """A context that lives in a task of its own, so that many can be left in any order. Made by `hold`."""

    def __init__(self, value: Opened, leave: trio.Event, left: trio.Event) -> None:
        self.value = value
        self._leave = leave
        self._left = left

    async def release(self) -> None:
        """Leave the context; returns when that is done."""
        self._leave.set()
        with trio.fail_after(PATIENCE_S):
            await self._left.wait()


async def hold(
    nursery: trio.Nursery, context: contextlib.AbstractAsyncContextManager[Opened]
) -> Held[Opened]:
    """Enter `context` in the nursery; it is left by `release` or with the nursery."""
    leave, left = trio.Event(), trio.Event()

    async def live(task_status: trio.TaskStatus[Opened]) -> None:
        try:
            async with context as value:
                task_status.started(value)
                await leave.wait()
        finally:
            left.set()

    return Held(await nursery.start(live), leave, left)


@contextlib.asynccontextmanager
async def watch(
    server: Server,
    transport: str,
    *filters: str,
    headers: Iterable[tuple[str, str]] = (),
    **options: Any,
) -> AsyncIterator[Watch]:
    """Subscribe by the query of `/events` or `/ws`; the first frame is taken as `connected`."""
    target = query(filters, **options)
    if transport == "sse":
        async with open_sse(server.port, "/events" + target, headers=headers) as stream:
            assert stream.status == 200, (stream.status, await stream.content())
            watcher = Watch(stream)
            watcher.connected = await watcher.next()
            assert watcher.connected["type"] == "connected"
            yield watcher
    else:
        async with open_ws(server, "/ws" + target, headers=headers, greet=False) as ws:
            watcher = Watch(ws)
            watcher.connected = await watcher.next()
            assert watcher.connected["type"] == "connected"
            yield watcher


class Fence:
    """Makes "everything has arrived" certain without waiting: a change that the watcher also sees, after all others.

    The watcher must select `.fence` beside what it tests. Frames of one change are not split between two fences.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._count = itertools.count(1)

    async def pass_through(self, *watchers: Watch) -> list[list[Frame]]:
        """What each watcher received until now, the fence itself left out."""
        value = f"fence {next(self._count)}"
        await self._api.put(".fence", value)
        return [await one.until(".fence", value) for one in watchers]


class RawWs:
    """A WebSocket of our own making, for frames that no library would send."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    @staticmethod
    def frame(
        opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bool = True
    ) -> bytes:
        """One frame; `rsv` is the three reserved bits as a number."""
        first = (0x80 if fin else 0) | (rsv << 4) | opcode
        bit = 0x80 if mask else 0
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", first, bit | size)
        elif size < 65536:
            head = struct.pack("!BBH", first, bit | 126, size)
        else:
            head = struct.pack("!BBQ", first, bit | 127, size)
        if not mask:
            return head + payload
        # A key of zeros is a legal key, and keeps big payloads cheap to make.
        return head + bytes(4) + payload

    async def send(self, data: bytes) -> None:
        """Bytes as they are; that the server has gone already is no fault of the test."""
        with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
            await self._stream.send_all(data)

    async def receive(self) -> tuple[int, bytes] | None:
        """The next frame of the server (opcode, payload), or None at the end of the stream."""
        head = await self._take(2)
        if head is None:
            return None
        size = head[1] & 0x7F
        assert not head[1] & 0x80, "a server never masks"
        if size >= 126:
            more = await self._take(2 if size == 126 else 8)
            assert more is not None
            size = int.from_bytes(more, "big")
        payload = await self._take(size)
        assert payload is not None
        return head[0] & 0x0F, payload

    async def close_code(self) -> int | None:
        """Read on to the close frame; None when the server ended without one."""
        with trio.fail_after(PATIENCE_S):
            while (frame := await self.receive()) is not None:
                if frame[0] == 0x8:
                    return int.from_bytes(frame[1][:2], "big") if frame[1] else 1005
        return None

    async def _take(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            try:
                more = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not more:
                return None
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def upgrade(target: str = "/ws", *headers: str) -> bytes:
    """The request head of a WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.asynccontextmanager
async def open_raw_ws(server: Server, target: str = "/ws") -> AsyncIterator[RawWs]:
    """Handshake done, nothing read of what follows."""
    async with open_socket(server) as stream:
        await stream.send_all(upgrade(target))
        raw = RawWs(stream)
        with trio.fail_after(PATIENCE_S):
            while b"\r\n\r\n" not in raw._buffer:
                data = await stream.receive_some(65536)
                assert data, raw._buffer
                raw._buffer += data
        head, _, raw._buffer = raw._buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        yield raw


@contextlib.asynccontextmanager
async def open_socket(
    server: Server, *, source: str = "127.0.0.1"
) -> AsyncIterator[trio.SocketStream]:
    """A bare connection from the address `source`."""
    with trio.fail_after(PATIENCE_S):
        sock = trio.socket.socket()
        try:
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", server.port))
        except BaseException:
            sock.close()
            raise
    try:
        yield trio.SocketStream(sock)
    finally:
        sock.close()


async def exchange(server: Server, request: bytes, *, patience_s: float = PATIENCE_S) -> bytes:
    """Send bytes, read until the server closes (or the answer's announced length is there).

    Both at once: a server may refuse a big body while it is still on its way.
    """
    answer = b""
    async with open_socket(server) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(request)

        nursery.start_soon(send)
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(patience_s):
            while not is_whole(answer) and (data := await stream.receive_some(65536)):
                answer += data
        nursery.cancel_scope.cancel()
    return answer


def is_whole(answer: bytes) -> bool:
    """A head with Content-Length and that much after it."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return len(body) >= int(value)
    return False
