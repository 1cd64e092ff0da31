"""The native lane: event streams and WebSockets served on the socket itself.

A stream is one task that waits for the peer's bytes; all it is sent is written by the hub. The
task ends when the peer leaves, or when the hub has ended the client and woken it; whichever it
is, the client is out of every registry before anything is awaited.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

import trio

from triode.app.delivery.subscriber import Client
from triode.app.net import idle_wait
from triode.app.net.request_head import answer
from triode.app.net.stream_head import check_websocket, is_websocket
from triode.app.runtime.effort import Effort, read
from triode.app.runtime.turns import TURN_S
from triode.app.service import stream_start
from triode.app.service.session import Session
from triode.app.wire import end_reasons, subprotocol
from triode.app.wire.chunks import Chunks
from triode.app.wire.compression import negotiate
from triode.app.wire.frame import Frame
from triode.app.wire.message_reader import MessageReader, Pongs, is_lone_pong
from triode.app.wire.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.net.connection import Connection
    from triode.app.net.request_head import Head
    from triode.app.service.triode import Triode
    from triode.app.wire.end_reasons import End
    from triode.app.wire.frame import Kind
    from triode.app.wire.stream_request import StreamRequest
    from triode.limits.principal import Principal

RECEIVE_BYTES: Final = 64 * 1024
# Read in one turn, where a peer sends faster than we read: at most 350 frames, or two milliseconds;
# where the peer compresses, a thousandth of what it may become.
TURN_BYTES: Final = 2 * 1024
TURN_BYTES_DEFLATED: Final = 512
# Messages handled in one turn, if that is not over before: some are a millisecond of work.
MESSAGES_PER_TURN: Final = 50
# In the first turn after a wait for the peer, if others have turns in the same round: a hundred may
# come at once. At most 20 frames, or one that is longer.
FEW_BYTES: Final = 128
FEW_MESSAGES: Final = 2
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class NativeLane:
    """A connection's own socket as a lane."""

    __slots__ = ("_connection", "_deadline_s", "chunks", "deflate_from", "inflates", "send_now")

    name = "native"

    def __init__(
        self,
        connection: Connection,
        write_deadline_s: float,
        deflate_from: int = 0,
        chunks: Chunks | None = None,
    ) -> None:
        self._connection = connection
        self.chunks = chunks
        self.deflate_from = deflate_from
        # Whether the peer may compress, see `compression.negotiate`.
        self.inflates = False
        self._deadline_s = write_deadline_s
        # The bound method of the socket itself: the flusher calls it once for each client and pass.
        self.send_now: Callable[[bytes], int] | None = (
            None if connection.secure else connection.sock.send
        )

    async def send_all(self, data: bytes) -> None:
        """Write all within the deadline; raises `trio.TooSlowError`, `BrokenResourceError` or
        `ClosedResourceError`.
        """
        await self._connection.send_all(data, self._deadline_s)

    def wake(self) -> None:
        """Make the task that waits for the peer's bytes look at its client."""
        # Not by an event to wait for beside the socket: that is a second task, at 11 KB a client.
        if not self._connection.closed:
            idle_wait.notify_closing(self._connection.sock)

    def abort(self) -> None:
        """Reset the connection."""
        self._connection.abort()


def is_native(triode: Triode, head: Head) -> bool:
    """Whether a request belongs to this lane: an event stream, or a WebSocket on one of its
    routes.
    """
    if head.method != "GET" or head.has_body:
        return False
    if is_websocket(head):
        path = head.decoded_path
        return path == "/ws" or any(r.match(path) is not None for r in triode.settings.sockets)
    return head.path == "/events"


async def serve(triode: Triode, connection: Connection, head: Head) -> None:
    """Serve one stream to its end. What the gate refuses is answered; the connection is the
    caller's to close.
    """
    # What only the opening needs stays in there: this frame lives as long as the client.
    client = await _opened(triode, connection, head)
    del head
    if client is None:
        return
    end = end_reasons.CLIENT_LOST
    try:
        if client.kind == "ws":
            end = await _receive_messages(triode, connection, client)
        else:
            end = await _receive_nothing(connection, client)
    except trio.ClosedResourceError:
        pass  # the hub has ended the client and woken us
    finally:
        # Also when the hub has ended it: of several ends the first counts.
        triode.hub.end(client, end, "silently")


async def _opened(triode: Triode, connection: Connection, head: Head) -> Client | None:
    """The registered client; None: it was refused, and has its answer."""
    try:
        socket = is_websocket(head)
        if socket:
            check_websocket(head)
        admitted = await stream_start.admit(triode, head, socket=socket)
        return open_client(triode, connection, head, "ws" if socket else "sse", *admitted)
    except Refusal as refusal:
        data = refused(triode, head, refusal)
        await connection.send_all(data, triode.settings.write_deadline_s)
        return None


def refused(triode: Triode, head: Head, refusal: Refusal) -> bytes:
    """The whole answer to a request that is refused, in a way that an EventSource survives."""
    triode.metrics.refused[refusal.status] += 1
    later = stream_start.come_back_later(refusal, head)
    if later is None:
        return answer(refusal)
    fields = refusal.headers | {"Content-Length": str(len(later))}
    return _stream_head(triode, head, fields) + later


def open_client(
    triode: Triode,
    connection: Connection,
    head: Head,
    kind: Kind,
    request: StreamRequest,
    principal: Principal,
    fields: dict[str, str],
) -> Client:
    """Register the client and owe it the response head and its first frames, in one step."""
    settings = triode.settings
    offered = head.get("sec-websocket-extensions") if kind == "ws" else None
    agreed = negotiate(offered) if settings.deflate_from else None
    deflate_from = settings.deflate_from if agreed is not None and agreed.deflates else 0
    chunks: Chunks | None = None
    if kind == "ws":
        response = _upgrade(head, agreed.answer if agreed else None)
    elif head.version == "1.0":
        response = _stream_head(triode, head, fields)
    else:
        # The chunks begin with the head, which goes out with the first event in one write: where
        # that is cut, they know what of it is out.
        framing = {"Transfer-Encoding": "chunked"}
        chunks, response = Chunks(_stream_head(triode, head, fields | framing)), b""
    lane = NativeLane(connection, settings.write_deadline_s, deflate_from, chunks)
    lane.inflates = agreed is not None
    return stream_start.open_stream(triode, kind, lane, head, request, principal, first=response)


def _stream_head(triode: Triode, head: Head, fields: dict[str, str]) -> bytes:
    lines = ["HTTP/1.1 200 OK"]
    # Its end is the end of the connection: what comes behind the request is read and thrown away,
    # so another request would wait for ever.
    all_fields = stream_start.STREAM_FIELDS | {"Connection": "close"}
    all_fields |= fields | triode.gate.origins.fields(head)
    lines += [f"{name}: {value}" for name, value in all_fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _upgrade(head: Head, extensions: str | None) -> bytes:
    key = (head.get("sec-websocket-key") or "").encode()
    # SHA-1 as RFC 6455 has it, which guards nothing; a Python of FIPS refuses it without the word.
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    field = b"" if extensions is None else f"Sec-WebSocket-Extensions: {extensions}\r\n".encode()
    protocol = subprotocol.chosen(head.members(subprotocol.FIELD))
    if protocol is not None:
        field += f"Sec-WebSocket-Protocol: {protocol}\r\n".encode()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, field)
    )


async def _receive_nothing(connection: Connection, client: Client) -> End:
    """An event stream's client has nothing to say; wait until it leaves."""
    while True:
        if connection.waits_cheaply:
            # Here rather than in `receive`: its frame would be half a kilobyte for each client.
            await idle_wait.wait_readable(connection.sock)
            data = connection.receive_now(1024)
        else:
            data = await connection.receive(1024)
        if client.end is not None:
            return await _goodbye(connection, client)
        if data == b"":
            return end_reasons.CLIENT_CLOSED


async def _receive_messages(triode: Triode, connection: Connection, client: Client) -> End:
    """Feed the session until the peer or the hub ends it."""
    # Made when first needed: most clients only listen.
    talk: _Talk | None = None
    try:
        while True:
            if connection.waits_cheaply and (talk is None or talk.reader is None):
                await idle_wait.wait_readable(connection.sock)
                await read()
                data = connection.receive_now(RECEIVE_BYTES)
            else:
                data = await connection.receive(RECEIVE_BYTES)
            if client.end is not None:
                return await _goodbye(connection, client)
            if data is None:
                continue
            if not data:
                return end_reasons.CLIENT_LOST
            triode.metrics.bytes_in += len(data)
            # Any byte is a sign of life, also the beginning of a long message.
            client.active_at = trio.current_time()
            if talk is None:
                talk = _Talk(triode, client)
            if not await talk.take(data):
                return await _goodbye(connection, client)
            del data  # it would stay for as long as the client is idle
    finally:
        if talk is not None:
            talk.close()


class _Talk:
    """What a WebSocket client says. `reader` is None while all that comes is pongs: so most clients
    take no more than one of an event stream.
    """

    __slots__ = ("_client", "_effort", "_inflates", "_session", "_triode", "reader")

    def __init__(self, triode: Triode, client: Client) -> None:
        lane = client.lane
        assert isinstance(lane, NativeLane)
        self._triode = triode
        self._client = client
        self._session = Session(triode, client)
        self._effort = Effort()
        self._inflates = lane.inflates
        self.reader: MessageReader | None = None

    async def take(self, data: bytes) -> bool:
        """Carry out what is whole with these bytes, in turns. False: the client has ended."""
        client, reader = self._client, self.reader
        if reader is None:
            if is_lone_pong(data):
                return True
            most = self._triode.settings.max_message_bytes
            reader = MessageReader(most, self._triode.messages, deflates=self._inflates)
            self.reader = reader
        at, turn_bytes = 0, TURN_BYTES_DEFLATED if self._inflates else TURN_BYTES
        while at < len(data) and client.end is None:
            # What comes together from one who is alone is flushed together.
            is_first = await self._effort.turn()
            is_long = is_first or at > 0
            size = turn_bytes if is_long else _first_of(data)
            await self._take(reader, data[at : at + size], is_long=is_long)
            at += size
        # Most that speak do so now and then; for the time between, they need no reader.
        if reader.is_idle:
            self.close()
        return client.end is None

    def close(self) -> None:
        """Let go of what is not whole."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    async def _take(self, reader: MessageReader, data: bytes, *, is_long: bool) -> None:
        """In this turn, which may be long or not, and in later ones."""
        hub, client = self._triode.hub, self._client
        most = MESSAGES_PER_TURN if is_long else FEW_MESSAGES
        until, done = trio.current_time() + TURN_S, 0
        for message in reader.feed(data):
            if done == most or (done and trio.current_time() > until):
                self._effort.done()
                await self._effort.turn()
                until, done, most = trio.current_time() + TURN_S, 0, MESSAGES_PER_TURN
            # Pongs go past the session: they are no commands, and no rate is for them. But they are
            # answers that the peer has to read, so they keep pace as others do.
            if type(message) is Pongs:
                hub.push(client, Frame(message, count=0))
                await self._session.keep_pace()
            else:
                await self._session.receive(message)
            if client.end is not None:
                return
            done += 1
        self._effort.done()
        if reader.end is not None:
            if reader.answer:
                hub.end(client, reader.end, goodbye=reader.answer)
            else:
                hub.end(client, reader.end, "silently")


def _first_of(data: bytes | bytearray) -> int:
    """How much of a read to take where others wait, if it begins with a frame."""
    if len(data) <= FEW_BYTES:
        return FEW_BYTES
    # A guess: in the middle of a message these bytes say anything. It only decides how much is
    # taken in this turn. (127 means more than 64 KiB: the beginning will do.)
    length = data[1] & 0x7F
    if length == 126:
        length = int.from_bytes(data[2:4], "big")
    return min(TURN_BYTES, max(FEW_BYTES, 8 + length))


async def _goodbye(connection: Connection, client: Client) -> End:
    """What a peer says after its end changes nothing; wait until the writer, if there is one, has
    written all.

    Nobody waits for a peer here: the writer has its deadline, and wakes us.
    """
    while client.writing and await connection.receive(RECEIVE_BYTES):
        pass
    assert client.end is not None
    return client.end
