"""Overflow: how frames come into the outbox of a slow client, and what happens when it is full.

The subscriber has chosen (`Policy`), for each filter and for its rooms:

- `drop-newest`: what comes now is lost.
- `drop-oldest`: the oldest that waits is lost.
- `latest`: of each place only the newest value waits. Where that cannot be said (a filter that
  has to be evaluated, too many places, too large values) the filter is resynced as a whole. Rooms
  have no places: they lose the oldest.
- `disconnect`: the client ends.

What is lost is a gap, counted and told. From the first full queue until the settlement (`resync`)
the policy decides about all that comes of the same source, whether there is room again or not: it
must not overtake what it would be applied to.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from triode.app.delivery import life
from triode.app.delivery.audience import Audience
from triode.app.delivery.direct_message import SENDERS, DirectFrame
from triode.app.delivery.lazy_frame import undroppable, without_positions
from triode.app.delivery.losses import Gap, Latest
from triode.app.delivery.rest import TOO_COSTLY
from triode.app.delivery.room import Room
from triode.app.delivery.snapshot import refusal
from triode.app.delivery.unevaluated import Skipped
from triode.app.wire import end_reasons
from triode.app.wire.frame import Frame
from triode.limits.policy import Policy

if TYPE_CHECKING:
    from triode.app.delivery.outbox import Outbox
    from triode.app.delivery.ports import HubPort
    from triode.app.delivery.subscriber import Client
    from triode.app.wire.source import Source

QUEUE_FULL = "queue_full"


def enqueue(hub: HubPort, client: Client, frames: list[Frame]) -> None:
    """Put frames into a slow client's outbox. It may end by that."""
    outbox = client.outbox
    if outbox is None:
        return
    # One for all: what comes together has waited equally long, and the clock costs a call.
    now = trio.current_time()
    end = client.end  # of one that has ended these are the last frames, with the goodbye
    for frame in frames:
        source = frame.source
        if type(frame) is Skipped:
            _skip(hub, client, frame)
        elif source is None:
            # An answer is never dropped for room: its client would wait for it for ever. One that
            # does not fit even so has asked far more than it reads.
            if outbox.put(_bare(client, frame), now):
                continue
            if type(frame) is DirectFrame:
                lose_direct(hub, client)
            else:
                hub.metrics.drops["control", "answers_unread"] += 1
                hub.end(client, end_reasons.SLOW, "at once")
        # Also where there is room again: it would overtake what tells of the gap before it.
        elif client.losses and client.losses.holds(source):
            _defer(hub, client, outbox, frame, source)
        else:
            frame = _bare(client, frame)
            # The ring of `drop-oldest` is the only thing in a queue that may still be lost.
            while not outbox.put(frame, now):
                old = outbox.evict()
                if old is None:
                    _overflow(hub, client, outbox, frame, source)
                    break
                _lose(hub, client, old)
        # Each of the branches may have ended it, and with that closed its outbox.
        if client.end is not end or client.is_gone:
            return


def rest(hub: HubPort, client: Client, audience: Audience) -> None:
    """A client is told that a filter takes too much: what comes of it is lost, and nothing carries
    a position, until there is a snapshot.
    """
    if client.end is not None or client.outbox is None or not _is_heard(client, audience):
        return
    # The next write that it is not evaluated for has to be told to this one too.
    audience.rest.is_known = False
    seq = hub.store.seq
    life.lose(client).gaps.setdefault(audience, Gap(seq + 1, seq, 0, TOO_COSTLY))
    client.outbox.sift(partial(_rested, hub, client, audience))


def rest_all(hub: HubPort, client: Client, until: float) -> None:
    """Until then nothing is evaluated for this client. It is told so at once, for each filter that
    this is about; what it misses is told with the snapshot that ends it.
    """
    client.rests_until = until
    # Before the word that it rests: else what was evaluated in time would come after it.
    if client.group is not None:
        client.group.flush()  # what is older comes as it is
    # The flush may have failed, and ended it.
    if client.end is not None or client.group is None:
        return
    # Losses are kept for the slow alone: a writer settles them. So it is slow from now on.
    if client.outbox is None:
        hub.writers.stall(client, [], 0)
    for audience in [each.audience for each in client.subscriptions.values()]:
        if audience.selection.evaluated is not None:
            rest(hub, client, audience)
            said = refusal(hub.store.position, audience, client.kind, None)
            client.group.push(client, Frame(said))


def _rested(hub: HubPort, client: Client, audience: Audience, frame: Frame) -> Frame | None:
    """What stays in the queue of a frame in it, when a filter rests from now on."""
    if frame.source is not audience:
        return _bare(client, frame)
    _lose(hub, client, frame, TOO_COSTLY)
    return None


def _skip(hub: HubPort, client: Client, frame: Skipped) -> None:
    """A write that a resting filter was not evaluated for; others are counted by the audience."""
    source, losses = frame.source, client.losses
    assert source is not None
    # Of a place that changed meanwhile the newest value is not known any more.
    if losses is not None and isinstance(source, Audience) and source in losses.latest:
        give_up(hub, client, source)
    _lose(hub, client, frame, TOO_COSTLY)
    gap = life.lose(client).gaps.get(source)
    if gap is not None and gap.skipped is None:
        gap.skipped = frame.skipped


def lose_all(hub: HubPort, client: Client, source: Source, frames: list[Frame]) -> bool:
    """Lose all these frames of one source at once, if the client has lost something of it before
    and would rather have what is old. False: that is not so, and nothing was done. It is what
    `enqueue` does frame by frame.
    """
    gap = client.losses.gaps.get(source) if client.losses is not None else None
    # With another policy it matters what is in the queue: frame by frame then.
    if gap is None or _policy(client, source) is not Policy.DROP_NEWEST:
        return False
    gap.missed += len(frames)
    gap.last = frames[-1].seq
    _count(hub, client, Policy.DROP_NEWEST, QUEUE_FULL, len(frames))
    return True


def takes_direct(hub: HubPort, client: Client, sender: str, size: int) -> bool:
    """Whether a client has room for one more message of this sender. One alone always has."""
    settings = hub.settings
    particulars = None if client.group is None else client.group.particulars.get(client)
    waiting = [
        holder.directs
        for holder in (client.outbox, particulars)
        if holder is not None and holder.directs is not None
    ]
    items = sum(directs.items for directs in waiting)
    if not items:
        return True
    # Two bounds: of each sender, so that one cannot keep the others out, and of all, as a client in
    # a crowded room has as many senders as it has company.
    total = size + sum(directs.bytes for directs in waiting)
    own = [directs.of(sender) for directs in waiting]
    return (
        sum(count for count, _ in own) < settings.direct_items
        and size + sum(held for _, held in own) <= settings.queue_bytes
        and items < SENDERS * settings.direct_items
        and total <= SENDERS * settings.queue_bytes
    )


def lose_direct(hub: HubPort, client: Client) -> None:
    """A message to this client alone is lost; its sender is told."""
    hub.metrics.drops["direct", QUEUE_FULL] += 1
    if client.drops is None:
        client.drops = {}
    client.drops["direct"] = client.drops.get("direct", 0) + 1


def part(client: Client, source: Source) -> None:
    """The client leaves this source. What is in its queue of it comes whatever happens; what waits
    beyond the queue is not owed any more.
    """
    outbox = client.outbox
    assert outbox is not None
    # It was owed before the answer to `leave` or `unsubscribe`: lost after that, nobody would be
    # told of the gap.
    outbox.sift(partial(_kept, source))
    if client.losses and client.losses.holds(source):
        client.losses.leave(source)
        for frame in [frame for frame in outbox.ring if frame.source is source]:
            outbox.forget(frame)


def _kept(source: Source, frame: Frame) -> Frame:
    return undroppable(frame) if frame.source is source else frame


def hear(client: Client, source: Source) -> None:
    """The client hears this source from now on (again): first comes its state."""
    if client.losses is not None:
        client.losses.left.discard(source)


def _bare(client: Client, frame: Frame) -> Frame:
    """The frame as it may be sent now. A room's own positions are about nothing else."""
    if not client.losses or isinstance(frame.source, Room):
        return frame
    return without_positions(frame, client.kind)


def _policy(client: Client, source: Source) -> Policy:
    if not _is_heard(client, source):
        return Policy.DROP_NEWEST
    if isinstance(source, Audience):
        return client.subscriptions[source.selection.filter.text].policy
    return Policy.DROP_OLDEST if client.policy is Policy.LATEST else client.policy


def _overflow(hub: HubPort, client: Client, outbox: Outbox, frame: Frame, source: Source) -> None:
    """The queue is full for the first time since the last settlement, for this source."""
    policy = _policy(client, source)
    # Empty so far, which counts as none: what is older than the first loss keeps its position.
    life.lose(client)
    if policy in (Policy.DROP_OLDEST, Policy.LATEST):
        outbox.sift(partial(_sifted, hub, client, outbox, policy))
    _defer(hub, client, outbox, frame, source)


def _sifted(
    hub: HubPort, client: Client, outbox: Outbox, policy: Policy, frame: Frame
) -> Frame | None:
    """What stays in the queue of a frame in it, when the sources of this policy leave it."""
    source = frame.source
    if source is None or _policy(client, source) is not policy:
        return _bare(client, frame)
    _defer(hub, client, outbox, frame, source)
    return None


def _defer(hub: HubPort, client: Client, outbox: Outbox, frame: Frame, source: Source) -> None:
    """Deal with a frame that may not go into the queue now."""
    losses = client.losses
    assert losses is not None
    policy = _policy(client, source)
    gap = losses.gaps.get(source)
    if gap is not None and gap.reason == TOO_COSTLY:
        _lose(hub, client, frame, TOO_COSTLY)  # its queue has nothing to do with it
    elif isinstance(source, Audience) and (
        source in losses.latest or (policy is Policy.LATEST and source not in losses.gaps)
    ):
        _merge(hub, client, source, frame)
    elif policy is Policy.DISCONNECT:
        _count(hub, client, policy, QUEUE_FULL)
        hub.end(client, end_reasons.SLOW)
    elif policy is Policy.DROP_OLDEST:
        _keep(hub, client, outbox, frame, source)
    else:
        _lose(hub, client, frame)


def _merge(hub: HubPort, client: Client, audience: Audience, frame: Frame) -> None:
    """Remember that a place has changed."""
    losses, place = client.losses, frame.place
    assert losses is not None
    latest = losses.latest.get(audience)
    # A snapshot, or a filter of which one value says nothing of the others: what is newest of each
    # place cannot be told.
    if place is None or not audience.selection.filter.indexable:
        if latest is not None:
            give_up(hub, client, audience)
        _lose(hub, client, frame)
        return
    if latest is None:
        latest = losses.latest[audience] = Latest(frame.seq)
    _count(hub, client, Policy.LATEST, "superseded", latest.take(place, frame.seq))
    if sum(len(each.places) for each in losses.latest.values()) > hub.settings.queue_items:
        give_up(hub, client, audience)


def give_up(hub: HubPort, client: Client, audience: Audience) -> None:
    """Too much of a filter has changed for values one by one: they are lost, and it is resynced
    as a whole.
    """
    losses = client.losses
    assert losses is not None
    latest = losses.latest.pop(audience)
    _count(hub, client, Policy.LATEST, QUEUE_FULL, len(latest.places))
    # One gap for all of them, from the first that was lost on.
    losses.gaps[audience] = Gap(latest.first, latest.last, latest.events, QUEUE_FULL)


def _keep(hub: HubPort, client: Client, outbox: Outbox, frame: Frame, source: Source) -> None:
    """Put a frame into the ring, and out of it what it has no room for."""
    # The new one first makes its room: put in before, it might be what is evicted.
    while not outbox.has_room(frame):
        old = outbox.evict()
        if old is None:
            _lose(hub, client, frame)
            return
        _lose(hub, client, old)
    assert client.losses is not None
    client.losses.rings.add(source)
    outbox.keep(frame)


def _lose(hub: HubPort, client: Client, frame: Frame, reason: str = QUEUE_FULL) -> None:
    source = frame.source
    assert source is not None
    _count(hub, client, _policy(client, source), reason)
    # A source that the client has left may still have frames in its queue. Their loss takes the
    # position from what follows, as any other does.
    losses = life.lose(client)
    if _is_heard(client, source):
        losses.lose(source, frame.seq, reason)
    else:  # who has left it asks for no repair
        losses.left.add(source)


def _is_heard(client: Client, source: Source) -> bool:
    return client.group is not None and source in client.group.sources


def _count(hub: HubPort, client: Client, policy: Policy, reason: str, events: int = 1) -> None:
    if not events:
        return
    hub.metrics.drops[policy.value, reason] += events
    if client.drops is None:
        client.drops = {}
    client.drops[reason] = client.drops.get(reason, 0) + events
