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
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

from triode.app.delivery.subscriber import Client
from triode.app.net import idle_wait
from triode.app.net.request_head import answer, is_websocket
from triode.app.service import stream_start
from triode.app.service.session import Session
from triode.app.wire import end_reasons
from triode.app.wire.compression import negotiate, reading
from triode.app.wire.frame import CLOSE, Frame
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
# Read before others get a turn, where a peer sends faster than we read: at most 700 frames, or
# some milliseconds.
TURN_BYTES: Final = 4 * 1024
# Messages handled before others get a turn, or for how long: some are a millisecond of work.
MESSAGES_PER_TURN: Final = 50
TURN_S: Final = 0.002
_CLOSE: Final = bytes((CLOSE,))
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class NativeLane:
    """A connection's own socket as a lane."""

    __slots__ = ("_connection", "_deadline_s", "deflate_from", "send_now")

    name = "native"

    def __init__(
        self, connection: Connection, write_deadline_s: float, deflate_from: int = 0
    ) -> None:
        self._connection = connection
        self.deflate_from = deflate_from
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
        if not self._connection.closed:
            idle_wait.notify_closing(self._connection.sock)

    def abort(self) -> None:
        """Reset the connection."""
        self._connection.abort()


def is_browser_stream(head: Head) -> bool:
    """Whether a browser's EventSource asks. It never comes back after an answer other than 200
    (HTML Standard, section 9.2.3, "fail the connection"), but does when there is none: so what is
    refused only for a moment is better not answered.
    """
    agent = head.get("user-agent") or ""
    return head.get("accept") == "text/event-stream" and agent.startswith("Mozilla/")


async def serve(triode: Triode, connection: Connection, head: Head) -> None:  # noqa: ASYNC910 # its first step may be its last: nothing was waited for
    """Serve one stream to its end. What the gate refuses is answered; the connection is the
    caller's to close.
    """
    try:
        admitted = await stream_start.admit(triode, head, socket=is_websocket(head))
        client = open_client(triode, connection, head, *admitted)
    except Refusal as refusal:
        triode.metrics.refused[refusal.status] += 1
        if triode.draining and is_browser_stream(head):
            await trio.lowlevel.checkpoint()
        else:
            await connection.send_all(answer(refusal), triode.settings.write_deadline_s)
        return
    is_socket = client.kind == "ws"
    del head
    end = end_reasons.CLIENT_LOST
    try:
        if is_socket:
            end = await _receive_messages(triode, connection, client)
        else:
            end = await _receive_nothing(connection, client)
    except trio.ClosedResourceError:
        pass  # the hub has ended the client and woken us
    finally:
        triode.hub.end(client, end, "silently")


def open_client(
    triode: Triode,
    connection: Connection,
    head: Head,
    request: StreamRequest,
    principal: Principal,
    fields: dict[str, str],
) -> Client:
    """Register the client and owe it the response head and its first frames, in one step."""
    settings = triode.settings
    kind: Kind = "ws" if is_websocket(head) else "sse"
    offered = head.get("sec-websocket-extensions") if kind == "ws" else None
    agreed = negotiate(offered) if settings.deflate_from else None
    deflate_from = 0 if agreed is None else settings.deflate_from
    lane = NativeLane(connection, settings.write_deadline_s, deflate_from)
    response = _upgrade(head, agreed) if kind == "ws" else _stream_head(triode, head, fields)
    return stream_start.open_stream(triode, kind, lane, head, request, principal, first=response)


def _stream_head(triode: Triode, head: Head, fields: dict[str, str]) -> bytes:
    lines = ["HTTP/1.1 200 OK"]
    all_fields = stream_start.STREAM_FIELDS | {"Connection": "close"}
    all_fields |= fields | triode.gate.pages.fields(head)
    lines += [f"{name}: {value}" for name, value in all_fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _upgrade(head: Head, extensions: str | None) -> bytes:
    key = (head.get("sec-websocket-key") or "").encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    field = b"" if extensions is None else f"Sec-WebSocket-Extensions: {extensions}\r\n".encode()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, field)
    )


async def _receive_nothing(connection: Connection, client: Client) -> End:
    """An event stream's client has nothing to say; wait until it leaves."""
    if not connection.secure and not connection.buffer:
        # Here rather than in `receive`: its frame would be half a kilobyte for each idle client.
        while True:
            await idle_wait.wait_readable(connection.sock)
            if client.end is not None:
                return await _goodbye(connection, client)
            try:
                if not connection.sock.recv(1024):
                    return end_reasons.CLIENT_CLOSED
            except BlockingIOError:
                pass
            except OSError:
                return end_reasons.CLIENT_LOST
    while await connection.receive(1024):
        if client.end is not None:
            return await _goodbye(connection, client)
    return end_reasons.CLIENT_CLOSED


async def _receive_messages(triode: Triode, connection: Connection, client: Client) -> End:
    """Feed the session until the peer or the hub ends it."""
    reader: MessageReader | None = None
    session = Session(triode, client)
    while True:
        data = await connection.receive(RECEIVE_BYTES)
        if client.end is not None:
            return await _goodbye(connection, client)
        if not data:
            return end_reasons.CLIENT_LOST
        triode.metrics.bytes_in += len(data)
        client.active_at = trio.current_time()
        if reader is None:
            # Made when first needed: most clients only listen.
            deflates = bool(client.deflate_from)
            reader = MessageReader(triode.settings.max_message_bytes, deflates=deflates)
        for at in range(0, len(data), TURN_BYTES):
            await _take(triode, session, client, reader, data[at : at + TURN_BYTES])
            if client.has_ended():
                return await _goodbye(connection, client)
            if at + TURN_BYTES < len(data):
                await trio.lowlevel.checkpoint()


async def _take(  # noqa: ASYNC910 # waits only when there is something to wait for
    triode: Triode, session: Session, client: Client, reader: MessageReader, data: bytes
) -> None:
    """Carry out what is whole with these bytes. The client may end by that."""
    hub = triode.hub
    until = trio.current_time() + TURN_S
    for index, message in enumerate(reader.feed(data)):
        await session.receive(message)
        if client.has_ended():
            return
        if index % MESSAGES_PER_TURN == MESSAGES_PER_TURN - 1 or trio.current_time() > until:
            await trio.lowlevel.checkpoint()
            until = trio.current_time() + TURN_S
    if reader.end is not None:
        if reader.answer:
            hub.end(client, reader.end, goodbye=reader.answer)
        else:
            hub.end(client, reader.end, "silently")
    elif reader.answer:
        hub.push(client, Frame(reader.answer))
        await session.keep_pace()


async def _goodbye(connection: Connection, client: Client) -> End:
    """What a peer says after its end changes nothing; wait until the writer, if there is one, has
    written all.

    Nobody waits for a peer here: the writer has its deadline, and wakes us.
    """
    while client.writing and await connection.receive(RECEIVE_BYTES):
        pass
    assert client.end is not None
    return client.end  # noqa: ASYNC910 # without a writer there is nothing to wait for


class MessageReader:
    """Turns a client's bytes into whole messages, by the sans-I/O protocol of `websockets`.

    After `feed`, `answer` is what the protocol wants sent, of pongs only that to the newest ping
    (RFC 6455 section 5.5.3), so that a flood of pings is not one of pongs; `end` is set once the
    connection has to end, and `answer` then is the close frame. A text message that is not UTF-8
    ends it with 1007, one that is too big with 1009 (RFC 6455 section 7.4.1).
    """

    __slots__ = ("_message", "_protocol", "_text", "answer", "end")

    def __init__(self, max_bytes: int, *, deflates: bool = False) -> None:
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=max_bytes)
        if deflates:
            self._protocol.extensions = [reading()]
        # The fragments so far, in one piece: as many as there are, they take what they hold.
        self._message = bytearray()
        self._text = True
        self.answer = b""
        self.end: End | None = None

    def feed(self, data: bytes) -> list[bytes | bytearray]:
        """Take bytes; the messages that are complete with them, in order."""
        protocol = self._protocol
        protocol.receive_data(data)
        messages: list[bytes | bytearray] = []
        for frame in protocol.events_received():
            opcode = frame.opcode  # type: ignore[union-attr] # an open connection yields frames only
            if opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if opcode is not Opcode.CONT:
                    self._text = opcode is Opcode.TEXT
                self._message += frame.data  # type: ignore[union-attr]
                if frame.fin:  # type: ignore[union-attr]
                    message = self._whole()
                    if message is None:
                        break
                    messages.append(message)
        self.answer = self._to_send()
        if self.end is None and protocol.state is not State.OPEN:
            self.end = self._end()
        return messages

    def _to_send(self) -> bytes:
        """The close frame, if there is one; else the newest pong."""
        answer = b""
        for part in self._protocol.data_to_send():
            if part and answer[:1] != _CLOSE:
                answer = part
        return answer

    def _whole(self) -> bytearray | None:
        message, self._message = self._message, bytearray()
        if self._text and not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError as error:
                self._protocol.fail(1007, f"invalid UTF-8 at byte {error.start}")
                self.end = end_reasons.NOT_TEXT
                return None
        return message

    def _end(self) -> End:
        sent = self._protocol.close_sent
        if self._protocol.parser_exc is None and self._protocol.close_rcvd is not None:
            return end_reasons.CLIENT_CLOSED
        if sent is not None and sent.code == end_reasons.TOO_BIG.code:
            return end_reasons.TOO_BIG
        return end_reasons.PROTOCOL
