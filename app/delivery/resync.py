"""Resync: the settlement of a client's losses, in one step, when its queue is empty.

    gap …                        how much is lost of each source, and between which positions
    what waited in the ring      the newest events, for those who would rather lose the oldest
    update …                     the newest value of each place that changed, for `latest`
    snapshot …                   each filter that has lost something; the last has the position

All of it is made of the document as it is now, after everything that the client's group is owed,
so that what it assembles is exact again from here on.

A client that can never keep up would get one snapshot after the other. So it is made to wait:
one that falls behind soon after it was resynced is resynced again only after a pause, which doubles
each time up to `heal_wait_max_s`. What it misses meanwhile is counted and told as ever. A client
that has kept up for a while starts anew.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.delivery import life
from triode.app.delivery.audience import Audience
from triode.app.delivery.lazy_frame import joined, without_positions
from triode.app.delivery.overflow import QUEUE_FULL, enqueue, give_up
from triode.app.delivery.rest import TOO_COSTLY
from triode.app.delivery.room import Room
from triode.app.delivery.snapshot import snapshots
from triode.app.wire.frame import FRAME_BYTES, Frame, control, document_frame, members_of
from triode.app.wire.max_event import fitted
from triode.store.change import Position
from triode.store.event import Event
from triode.store.value import MISSING, approx_bytes

if TYPE_CHECKING:
    from triode.app.delivery.losses import Gap, Latest, Losses
    from triode.app.delivery.outbox import Outbox
    from triode.app.delivery.ports import HubPort
    from triode.app.delivery.subscriber import Client
    from triode.app.wire.source import Source

# Who has kept up for so long after a resync, and for twice its last pause, is not made to wait.
CALM_S: Final = 10.0
FIRST_WAIT_S: Final = 1.0


def resync(hub: HubPort, client: Client) -> bool:
    """Queue what settles a client's losses; its outbox is empty. False: nothing can be done now.

    What its group is still owed is flushed first, so all this comes after everything older.
    """
    if not client.losses or client.group is None:
        return False
    now = trio.current_time()
    if not client.losses.latest and now < due_at(client):
        return False
    client.group.flush()
    losses, outbox = client.losses, client.outbox
    if client.end is not None or outbox is None:
        return False
    losses.left.clear()
    room = FRAME_BYTES
    for audience, latest in list(losses.latest.items()):
        size = _size_of(hub, latest, room)
        if size is None:
            give_up(hub, client, audience)
        else:
            room -= size
    newest = _newest(hub, client, losses)
    frames = newest if now < due_at(client) else _settled(hub, client, losses, outbox, newest)
    life.settle(client)
    if frames:
        # Where something is still owed, only what rooms have said keeps its positions.
        is_part = bool(client.losses)
        if is_part:
            frames = [_bare(client, frame) for frame in frames]
        enqueue(hub, client, [joined(frames, verbatim=is_part)])
    return bool(frames)


def _settled(
    hub: HubPort, client: Client, losses: Losses, outbox: Outbox, newest: list[Frame]
) -> list[Frame]:
    """What settles all that may be by now. What has to wait for longer stays."""
    now = trio.current_time()
    gaps = {s: gap for s, gap in losses.gaps.items() if now >= _due_at(client, s, gap)}
    for source, gap in gaps.items():
        del losses.gaps[source]
        if isinstance(source, Audience):
            gap.settle(source.rest)
            source.rest.is_known = False
            source.rest.is_ordered = True
    has_waited = not any(gap.reason == QUEUE_FULL for gap in losses.gaps.values())
    ring: list[Frame] = []
    if has_waited:
        ring = [_bare(client, frame) for frame in outbox.empty_ring()]
        losses.rings.clear()
    if any(gap.reason == QUEUE_FULL for gap in gaps.values()):
        _pause(hub, client)
    lost = {source: gap for source, gap in gaps.items() if gap.missed or gap.replaced}
    told = [_told(hub, client, source, gap) for source, gap in lost.items()]
    return told + ring + newest + _snapshots(hub, client, gaps)


def due_at(client: Client) -> float:
    """When something of what a client has lost may be told anew."""
    if client.losses and client.losses.gaps:
        return min(_due_at(client, *each) for each in client.losses.gaps.items())
    return -math.inf


def _due_at(client: Client, source: Source, gap: Gap) -> float:
    if gap.reason == TOO_COSTLY:
        return max(client.rests_until, source.rest.until if isinstance(source, Audience) else 0.0)
    return client.healed_at + client.heal_wait_s


def _pause(hub: HubPort, client: Client) -> None:
    """A client is resynced: how long is it until that may happen again?"""
    now, wait_s = trio.current_time(), client.heal_wait_s
    if now > client.healed_at + max(CALM_S, 2 * wait_s):
        client.heal_wait_s = 0.0
    else:
        client.heal_wait_s = min(hub.settings.heal_wait_max_s, max(FIRST_WAIT_S, 2 * wait_s))
    client.healed_at = now
    client.heals += 1


def _bare(client: Client, frame: Frame) -> Frame:
    return frame if isinstance(frame.source, Room) else without_positions(frame, client.kind)


def _told(hub: HubPort, client: Client, source: Source, gap: Gap) -> Frame:
    if isinstance(source, Audience):
        epoch = hub.store.epoch
        body: dict[str, Any] = {"filter": source.selection.filter.text}
    else:
        assert isinstance(source, Room)
        epoch = f"{hub.store.epoch}-{source.epoch}"
        body = {"room": source.name}
    body |= {
        "missed": gap.missed,
        "after": str(Position(epoch, gap.first - 1)),
        "to": str(Position(epoch, gap.last)),
        "reason": gap.reason,
    }
    if gap.replaced is not None:
        body |= {"after": str(gap.replaced.after), "lost": gap.replaced.lost}
    hub.metrics.gaps_total += 1
    return Frame(control(client.kind, "gap", body))


def _snapshots(hub: HubPort, client: Client, gaps: dict[Source, Gap]) -> list[Frame]:
    audiences = [source for source in gaps if isinstance(source, Audience)]
    return snapshots(hub, audiences, client.kind, client.max_event)


def _size_of(hub: HubPort, latest: Latest, room: int) -> int | None:
    """How many bytes the newest values of all these places are; None: more than there is room for,
    or one is not there.
    """
    left = room
    for path, pending in latest.places.items():
        value = MISSING if pending.gone else hub.store.document.get(path)
        if value is not MISSING:
            left -= approx_bytes(value, limit=left)
        elif not pending.gone:
            return None
        if left <= 0:
            return None
    return room - left


def _newest(hub: HubPort, client: Client, losses: Losses) -> list[Frame]:
    """The newest value of each place that has changed; the last has the position."""
    owed = [
        (audience, path, pending)
        for audience, latest in losses.latest.items()
        for path, pending in latest.places.items()
    ]
    losses.latest = {}
    position = str(hub.store.position).encode()
    frames: list[Frame] = []
    for audience, path, pending in owed:
        if pending.gone:
            event = Event("delete", path, MISSING)
        else:
            event = Event("update", path, hub.store.document.get(path))
        type_, members = members_of(event, pending.time_ms, pending.events - 1)
        # With a gap a snapshot comes after it, which has the position.
        id = position if len(frames) == len(owed) - 1 and not losses.gaps else None
        name = audience.filter_json
        data = document_frame(client.kind, type_, name, members, id)
        most, missed = client.max_event, pending.events - 1
        data = fitted(data, client.kind, event, pending.time_ms, name, id, most, missed)
        frames.append(Frame(data))
    return frames
