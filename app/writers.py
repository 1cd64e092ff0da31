"""The writers of slow clients: what happens to those who do not take what they are owed at once.

A client whose socket would not take all leaves the flushing and gets an outbox, and a writer: a
task that lives until the outbox is empty. What finds no room in it is dealt with by the
subscriber's policy. What is dropped is counted; before a client flows again it is told (`gap`), and
what it watches is repaired by a snapshot.

Two rules keep the promises:

- A write that is cut off may have sent part of a frame: it ends the connection.
- From the first loss until the repair nothing carries a position. A position says that everything
  up to it has arrived; whoever is cut off meanwhile resumes from before the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from app import ends
from app.client import Client, Gap
from app.frame import Frame, control
from app.outbox import Feed, Outbox, joined, without_positions
from app.room import Room
from app.snapshot import snapshot
from app.source import Audience, Source
from limits.policy import Policy
from store.change import Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.hub import Hub

# A writer joins up to this much into one write. Smaller than a socket's buffer, so a slow reader
# makes visible progress.
WRITE_BYTES: Final = 16 * 1024


class Writers:
    """The slow side of the hub. `nursery` is where writers run, while the hub runs."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.nursery: trio.Nursery | None = None

    def count_sent(self, clients: int, frames: int, size: int) -> None:
        """The flusher wrote `frames` of together `size` bytes to each of so many clients."""
        self._hub.metrics.events_total += clients * frames
        self._hub.metrics.bytes_out += clients * size

    def stalled(self, client: Client, due: list[Frame], sent: int) -> None:
        """A flowing client's socket took only `sent` bytes of `due` (-1: it is lost)."""
        if client.end is not None:
            return
        if sent < 0:
            self._hub.close(client, ends.CLIENT_LOST)
            client.lane.abort()
            return
        group = client.group
        assert group is not None
        del group.flowing[client]
        group.slow[client] = None
        self.stall(client, due, sent)

    def stall(self, client: Client, due: list[Frame], sent: int) -> None:
        client.outbox = self.outbox()
        rest = list(due)
        while rest and (sent >= len(rest[0].data) > 0):
            sent -= len(rest.pop(0).data)
            self._hub.metrics.events_total += 1
        if rest and sent:
            # The rest of a frame of which a part is out must follow whatever the bounds: it is
            # not droppable.
            rest[0] = Frame(rest[0].data[sent:])
        self.enqueue(client, rest)

    def enqueue(self, client: Client, frames: list[Frame]) -> None:
        """Put frames into a slow client's outbox; its policy says what happens without room."""
        outbox = client.outbox
        if outbox is None:
            return
        now = trio.current_time()
        for frame in frames:
            source = frame.source
            if client.gaps:
                frame = without_positions(frame, client.kind)
            if source is None:
                if not outbox.put(frame, now):
                    self._hub.metrics.drops["control", "answers_unread"] += 1
                    self._hub.close(client, ends.SLOW)
                    client.lane.abort()
                    return
                continue
            gaps = client.gaps
            # After the first loss the source is healed as a whole: what still comes before that is
            # part of the gap.
            if (gaps is not None and source in gaps) or not outbox.put(frame, now):
                if self._policy(client, source) is Policy.DISCONNECT:
                    self._hub.metrics.drops[Policy.DISCONNECT.value, "queue_full"] += 1
                    self._hub.finish(client, ends.SLOW)
                    return
                self._drop(client, source, frame)
        if client.send_now is not None and not client.writing and self.nursery is not None:
            client.writing = True
            self.nursery.start_soon(self._write, client)

    def _policy(self, client: Client, source: Source) -> Policy:
        if isinstance(source, Audience):
            subscription = client.subscriptions.get(source.selection.filter.text)
            if subscription is not None:
                return subscription.policy
        return Policy.DROP_NEWEST

    def _drop(self, client: Client, source: Source, frame: Frame) -> None:
        client.drops += 1
        self._hub.metrics.drops[self._policy(client, source).value, "queue_full"] += 1
        if client.group is None or source not in client.group.sources:
            return  # it has left the source meanwhile, and asks for no repair
        if client.gaps is None:
            client.gaps = {}
        gap = client.gaps.get(source)
        if gap is None:
            gap = client.gaps[source] = Gap(frame.seq, "queue_full")
        gap.missed += 1
        gap.last = frame.seq

    def outbox(self) -> Outbox:
        return Outbox(self._hub.settings.queue_items, self._hub.settings.queue_bytes)

    def heal(self, client: Client) -> bool:
        """Announce to a client whose outbox is empty what it has lost, and queue the repair.
        False: nothing was lost.

        What its group is still owed is flushed first, so the snapshot comes after everything
        older than it.
        """
        if client.gaps is None or client.group is None:
            return False
        client.group.flush()
        if client.end is not None:
            return False
        gaps, client.gaps = client.gaps, None
        due: list[Frame] = []
        audiences = [source for source in gaps if isinstance(source, Audience)]
        for source, gap in gaps.items():
            due.append(Frame(self._gap(client, source, gap)))
        for audience in audiences:
            last = audience is audiences[-1]
            due.append(snapshot(self._hub.store, audience, client.kind, id=last))
        self._hub.metrics.gaps_total += len(gaps)
        self._hub.metrics.snapshots_total += len(audiences)
        self.enqueue(client, [joined(due)])
        return True

    def _gap(self, client: Client, source: Source, gap: Gap) -> bytes:
        if isinstance(source, Audience):
            epoch = self._hub.store.epoch
            body: dict[str, Any] = {"filter": source.selection.filter.text}
        else:
            assert isinstance(source, Room)
            epoch = f"{self._hub.store.epoch}-{source.epoch}"
            body = {"room": source.name}
        body |= {
            "missed": gap.missed,
            "after": str(Position(epoch, gap.first - 1)),
            "to": str(Position(epoch, gap.last)),
            "reason": gap.reason,
        }
        return control(client.kind, "gap", body)

    async def _write(self, client: Client) -> None:  # noqa: ASYNC910 # waits only when there is something to wait for
        """A slow client's writer: drain its outbox, then let it flow again or end."""
        try:
            for data in self.drain(client):
                await client.lane.send_all(data)
                self._hub.metrics.bytes_out += len(data)
        except trio.ClosedResourceError:
            pass
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            self._hub.close(client, ends.WRITE_TIMEOUT)
            client.lane.abort()
        finally:
            client.writing = False
        if client.end is not None:
            client.lane.wake()

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
                if not frames and not self.heal(client):
                    # Again: the flush before a heal may have brought something, and be it an end.
                    frames = outbox.take_nowait(WRITE_BYTES)
                    if not frames:
                        if client.send_now is not None and client.group is not None:
                            self._flow(client)
                        return
            except trio.ClosedResourceError:
                return
            if frames:
                yield from self.pieces(frames)

    def pieces(self, frames: list[Frame]) -> Iterator[bytes]:
        """The bytes of frames taken from an outbox: joined, and a feed piece by piece."""
        self._hub.metrics.events_total += len(frames)
        data = b"".join([frame.data for frame in frames])
        if len(data) <= 2 * WRITE_BYTES:
            if data:
                yield data
        else:  # one big frame, or the rest of one: in pieces, so that each has its own deadline
            for at in range(0, len(data), WRITE_BYTES):
                yield data[at : at + WRITE_BYTES]
        if isinstance(frames[-1], Feed):
            for piece in frames[-1].pieces():
                if piece:
                    yield piece

    def _flow(self, client: Client) -> None:
        group = client.group
        assert group is not None
        client.outbox = None
        del group.slow[client]
        group.flowing[client] = None
