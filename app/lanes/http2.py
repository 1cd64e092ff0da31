"""HTTP/2, which Hypercorn speaks for both ways of serving, and what it lacks against hostile peers.

Hypercorn 0.18 handles all that a read brought in one step, without end; and what a client does not
take waits for ever, all of it copied: its buffers let more in whenever they are looked at, taken
from or not. An exception on the way ends the whole server, and a peer can cause
some: data for a stream that has been answered, or a path that is not ASCII. So here

- what comes is handled in pieces of a few frames, each in its turn (`app/runtime/effort.py`);
- frames without content have a rate; beyond it the connection ends with ENHANCE_YOUR_CALM;
- what goes wrong ends the connection, and no other;
- a connection is idle, and has an end, also before its first request and after a reset: Hypercorn
  starts its idle timer after whole answers only;
- an answer goes into the buffer piece by piece, and a stream whose client takes none of a piece
  within the write deadline is reset. Other streams of the connection go on. A connection that
  takes nothing at all is ended.

`install` puts it in the place of Hypercorn's own, which has no option for that.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import h2.events
import hypercorn.protocol.h2
import trio
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Data, EndBody, EndData, StreamClosed, Trailers
from hypercorn.protocol.h2 import (
    BUFFER_HIGH_WATER,
    BUFFER_LOW_WATER,
    BufferCompleteError,
    H2Protocol,
    StreamBuffer,
)
from hypercorn.protocol.ws_stream import WSStream

from triode.app.config.settings import DEFAULTS
from triode.app.net.http2_frames import Frames, TooManyFrames
from triode.app.runtime.effort import APP_S, Effort
from triode.app.service.hypercorn_wires import note_reset

if TYPE_CHECKING:
    from hypercorn.protocol.events import Event as StreamEvent

    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

# A buffer takes twice that.
PIECE_BYTES: Final = 16 * 1024


class Http2(H2Protocol):
    """One connection."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        extensions = getattr(getattr(self.app, "app", None), "extensions", {})
        self._triode: Triode | None = extensions.get("triode")
        settings = DEFAULTS if self._triode is None else self._triode.settings
        self._effort = Effort()
        self._frames = Frames(settings.http2_rate)
        self._write_deadline_s = settings.write_deadline_s
        server: Any = getattr(self.send, "__self__", None)
        if isinstance(getattr(server, "stream", None), (trio.SocketStream, trio.SSLStream)):
            server.stream = _TimelyStream(server.stream, self._write_deadline_s)

    async def initiate(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        """Begin; with `headers`, by an upgrade from HTTP/1.1."""
        await super().initiate(headers, settings)
        await self._note_idle()  # the preface counted as a request of HTTP/1.1

    # What comes

    async def handle(self, event: Event) -> None:
        """Take what the peer has sent."""
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        try:
            for piece in self._frames.pieces(event.data, trio.current_time()):
                await self._effort.turn()
                if self.closed:
                    return
                await super().handle(RawData(data=piece))
                self._effort.done()
        except TooManyFrames:
            if self._triode is not None:
                self._triode.metrics.http2_floods += 1
            await self._end(ErrorCodes.ENHANCE_YOUR_CALM)
        except Exception as error:  # whatever a peer can cause there ends its connection only
            log.warning("an HTTP/2 connection is ended: %r", error)
            await self._end(ErrorCodes.PROTOCOL_ERROR)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                # Answered before all of its body had come.
                self.connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
            elif isinstance(event, h2.events.RequestReceived) and not _is_sound(event.headers):
                self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
            else:
                if isinstance(event, h2.events.RequestReceived):
                    self._effort.charge(APP_S)
                await super()._handle_events([event])
                if isinstance(event, h2.events.StreamReset):
                    await self._note_idle()
        await self._flush()

    async def _close_stream(self, stream_id: int) -> None:
        # Hypercorn fails so for a stream in whose beginning it has failed.
        with contextlib.suppress(AttributeError):
            await super()._close_stream(stream_id)

    async def _note_idle(self) -> None:
        """Start the idle timer if no stream is left."""
        if self.idle and not self.closed:
            await self.send(Updated(idle=True))

    async def _end(self, code: ErrorCodes) -> None:
        with contextlib.suppress(ProtocolError):
            self.connection.close_connection(error_code=code)
        await self._flush()
        await self.send(Closed())

    # What goes

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of an answer."""
        if isinstance(event, (Body, Data)):
            for at in range(0, len(event.data), PIECE_BYTES):
                piece = replace(event, data=event.data[at : at + PIECE_BYTES])
                if not await self._send_in_time(piece):
                    return
        elif isinstance(event, (EndBody, EndData, Trailers)):
            await self._send_in_time(event)
        elif isinstance(event, StreamClosed) and self._is_socket(event.stream_id):
            self.stream_buffers[event.stream_id].set_complete()
            await super().stream_send(event)
            await self._window_updated(event.stream_id)
        else:
            if isinstance(event, StreamClosed):
                await self._reset_unless_whole(event.stream_id)
            await super().stream_send(event)

    async def _send_in_time(self, event: StreamEvent) -> bool:
        with trio.move_on_after(self._write_deadline_s):
            await super().stream_send(event)
            return True
        if self._triode is not None:
            self._triode.metrics.http2_stuck += 1
        note_reset(self.streams.get(event.stream_id))
        await self._reset_unless_whole(event.stream_id)
        await self._close_stream(event.stream_id)
        await self._note_idle()
        return False

    def _is_socket(self, stream_id: int) -> bool:
        known = stream_id in self.stream_buffers
        return known and isinstance(self.streams.get(stream_id), WSStream)

    async def _reset_unless_whole(self, stream_id: int) -> None:
        """Let go of what was not taken, and tell the peer that no more comes."""
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None or buffer.complete:
            return
        await buffer.close()
        with contextlib.suppress(ProtocolError):
            self.connection.reset_stream(stream_id, error_code=ErrorCodes.CANCEL)
        await self._window_updated(stream_id)  # so that the sending task forgets the buffer
        await self._flush()


def _is_sound(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether Hypercorn can begin with such a request."""
    fields = dict(headers)
    return all(fields.get(name, b"\xff").isascii() for name in (b":method", b":path"))


class Buffer(StreamBuffer):
    """What waits of one answer: whoever adds to it waits until little is left."""

    async def push(self, data: bytes) -> None:
        """Add; raises `BufferCompleteError` after the end."""
        if self._complete:
            raise BufferCompleteError
        self.buffer += data
        await self._is_empty.clear()
        if len(self.buffer) >= BUFFER_HIGH_WATER:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        """Take no more than so much; maybe nothing."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class _TimelyStream:
    """A stream of Hypercorn's whose sends have a deadline. It is inside: Hypercorn shields them."""

    def __init__(self, stream: Any, deadline_s: float) -> None:
        self._stream = stream
        self._deadline_s = deadline_s
        self.is_late = False
        self.transport_stream = getattr(stream, "transport_stream", stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send_all(self, data: bytes) -> None:
        """Raises `trio.BrokenResourceError` at the deadline, too."""
        with trio.move_on_after(self._deadline_s):
            await self._stream.send_all(data)
            return
        self.is_late = True
        await trio.aclose_forcefully(self._stream)
        raise trio.BrokenResourceError("the peer took nothing")


def install() -> None:
    """Let Hypercorn use it, in this process."""
    for module, name, ours in (
        (hypercorn.protocol, "H2Protocol", Http2),
        (hypercorn.protocol.h2, "StreamBuffer", Buffer),
    ):
        setattr(module, name, ours)
