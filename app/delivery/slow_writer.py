"""The writers of slow clients: what happens to those who do not take what they are owed at once.

A client whose socket would not take all leaves the flushing and gets an outbox, and a writer: a
task that lives until the outbox is empty. What finds no room in it is dealt with by the
subscriber's policy (`overflow`). What is dropped is counted; before a client flows again it is told
(`gap`), and what it watches is repaired by a snapshot (`resync`).

Two rules keep the promises:

- A write that is cut off may have sent part of a frame: it ends the connection.
- From the first loss until the repair nothing carries a position. A position says that everything
  up to it has arrived; whoever is cut off meanwhile resumes from before the loss.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from triode.app.delivery import life, overflow
from triode.app.delivery.group import events_in
from triode.app.delivery.lazy_frame import LazyFrame
from triode.app.delivery.resync import due_at, resync
from triode.app.delivery.unevaluated import Refused
from triode.app.runtime.turns import between
from triode.app.wire import end_reasons
from triode.app.wire.compression import on_wire
from triode.app.wire.frame import Frame, Remainder, without_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.app.delivery.ports import HubPort
    from triode.app.delivery.subscriber import Client
    from triode.app.wire.source import Source

log = logging.getLogger("triode")

# A writer joins up to this much into one write. Smaller than a socket's buffer, so a slow reader
# makes visible progress.
WRITE_BYTES: Final = 16 * 1024


class SlowWriters:
    """The slow side of the hub. `nursery` is where writers run, while the hub runs."""

    def __init__(self, hub: HubPort) -> None:
        self._hub = hub
        self.nursery: trio.Nursery | None = None

    def _count(self, client: Client, frames: int, size: int) -> None:
        client.sent += frames
        client.sent_bytes += size
        self._hub.metrics.events_total += frames
        self._hub.metrics.bytes_out += size

    def stalled(self, client: Client, due: list[Frame], sent: int) -> None:
        """A flowing client's socket took only `sent` bytes of `due` (-1: it is lost)."""
        if client.end is not None:
            return
        if sent < 0:
            self._hub.end(client, end_reasons.CLIENT_LOST, "at once")
            return
        self.stall(client, due, sent)

    def stall(self, client: Client, due: list[Frame], sent: int) -> None:
        """Let what a client's socket did not take wait for its writer."""
        life.stall(self._hub, client)
        rest = list(due)
        # Bytes as they are out; a frame counts when all of it is.
        self._count(client, 0, sent)
        if client.chunks is not None and sent:
            data = b"".join([on_wire(frame, client.deflate_from) for frame in due])
            sent = client.chunks.took(data, sent)
        # Of a lazy frame nothing can be out: its bytes are yet to be made.
        while rest and not rest[0].is_lazy:
            if sent < len(on_wire(rest[0], client.deflate_from)):
                break
            first = rest.pop(0)
            sent -= len(on_wire(first, client.deflate_from))
            self._count(client, first.count, 0)
        if rest and sent:
            # The rest of a frame of which a part is out must follow whatever the bounds: it is
            # not droppable.
            data = on_wire(rest[0], client.deflate_from)
            rest[0] = Remainder(rest[0], memoryview(data)[sent:])
        self.enqueue(client, rest)

    def enqueue(self, client: Client, frames: list[Frame]) -> None:
        """Put frames into a slow client's outbox, and let a writer take them from there."""
        overflow.enqueue(self._hub, client, frames)
        self._start(client)

    def lose_all(self, client: Client, source: Source, frames: list[Frame]) -> bool:
        """Lose frames of one source, if that is all that would become of them: see `overflow`."""
        return overflow.lose_all(self._hub, client, source, frames)

    def resume(self, client: Client) -> None:
        """Let whoever writes to a slow client look again whether it can be resynced."""
        if client.outbox is not None and not client.outbox.queued and not client.writing:
            self.enqueue(client, [Frame(b"", count=0)])

    def _start(self, client: Client) -> None:
        outbox = client.outbox
        # A lane without direct writes (ASGI) has a task of its own that drains the outbox.
        if outbox is None or client.send_now is None or client.writing or self.nursery is None:
            return
        # All that came at once may have gone from the queue into the losses; and all frames may be
        # out, but not the end of the chunk that they are in.
        is_open = client.chunks is not None and client.chunks.is_open
        if outbox.queued or is_open or (client.losses and trio.current_time() >= due_at(client)):
            client.writing = True
            self.nursery.start_soon(self._write, client)

    async def _write(self, client: Client) -> None:
        """A slow client's writer: drain its outbox, then let it flow again or end."""
        try:
            for data in self.drain(client):
                if data:
                    await client.lane.send_all(data)
                else:
                    await between(data)
        except trio.ClosedResourceError:
            pass  # the client has been ended meanwhile, and that closed its socket
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            self._hub.end(client, end_reasons.WRITE_TIMEOUT, "at once")
        except Exception:
            # Ours, not the peer's; and only this client's, whatever it is.
            log.exception("what %r is owed could not be written", client)
            self._hub.end(client, end_reasons.FAULT, "at once")
        finally:
            client.writing = False

    def drain(self, client: Client) -> Iterator[bytes]:
        """What to write next to a slow client, piece by piece, until it flows again (or, on a
        lane without direct writes, until its outbox is empty for now).
        """
        while True:
            outbox = client.outbox
            if outbox is None:
                return
            try:
                frames = outbox.take_nowait(WRITE_BYTES)
                if not frames and not resync(self._hub, client):
                    # Again: the flush before a resync may have brought something, and be it an end.
                    frames = outbox.take_nowait(WRITE_BYTES)
                    if not frames:
                        if client.chunks is not None:
                            rest = client.chunks.settle(last=client.end is not None)
                            if rest:
                                yield rest
                                self._count(client, 0, len(rest))
                                continue
                        life.drained(client)
                        return
            except trio.ClosedResourceError:
                return
            if frames:
                yield from self.pieces(client, frames)

    def pieces(self, client: Client, frames: list[Frame]) -> Iterator[bytes]:
        """The bytes of frames taken from an outbox: small ones joined, others in pieces. Each is
        counted as sent when the next is asked for. An empty one is a pause: a checkpoint is due.
        """
        is_bare = False
        for piece in self._pieces(frames, client.deflate_from):
            if type(piece) is Refused:
                overflow.rest(self._hub, client, piece.audience)
                is_bare = True
            # What is refused is lost from here on; a position behind it would say that it came.
            said = without_id(piece, client.kind) if is_bare and piece else piece
            data = said if client.chunks is None or not said else client.chunks.put(said)
            yield data
            # Behind the `yield`: one whose write fails is never asked for more, nor counted.
            self._count(client, 0, len(data))
        self._count(client, events_in(frames), 0)

    def _pieces(self, frames: list[Frame], deflate_from: int) -> Iterator[bytes]:
        small: list[bytes | memoryview] = []
        for frame in frames:
            data = frame.view if isinstance(frame, Remainder) else on_wire(frame, deflate_from)
            if len(data) <= WRITE_BYTES:
                small.append(data)
                continue
            # `any`, as all may be empty (see `resume`): nothing must not be yielded, it is a pause.
            if any(small):
                yield b"".join(small)
                small.clear()
            # In pieces, so that each has its own deadline, and no client has a copy of the whole.
            for at in range(0, len(data), WRITE_BYTES):
                piece = bytes(data[at : at + WRITE_BYTES])
                with self._hub.backlog.writing(piece):
                    yield piece
        if any(small):
            yield b"".join(small)
        if isinstance(frames[-1], LazyFrame):
            for piece in frames[-1].pieces():
                with self._hub.backlog.writing(piece):
                    yield piece
