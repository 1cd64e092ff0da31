"""Fan-out: the events of one change become frames, and are owed to all who watch.

Each filter's audience is owed its events in turn. Each of its groups gets one frame for an event,
which is encoded once for all groups that want the same bytes. What is too much to be told event by
event is told by a snapshot in its place, and so is what nobody had the time to evaluate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from triode.app.delivery.snapshot import snapshot
from triode.app.delivery.unevaluated import Skipped
from triode.app.delivery.whole import told_whole
from triode.app.wire.frame import Frame, Place, document_frame, members_of
from triode.app.wire.max_event import fitted
from triode.limits.meter import Meter
from triode.store.evaluated import STALE
from triode.store.index import Event

if TYPE_CHECKING:
    from triode.app.delivery.audience import Audience
    from triode.app.delivery.group import Group
    from triode.app.delivery.ports import HubPort
    from triode.app.delivery.subscriber import Client
    from triode.app.wire.frame import Kind
    from triode.store.evaluated import Evaluated
    from triode.store.index import Selection
    from triode.store.store import Committed
    from triode.store.work import Work

# An audience, and an event that it is owed.
Owed: TypeAlias = "tuple[Audience, Event]"

# In place of all events of a change for one filter.
WHOLE: Final = Event("snapshot", (), [])


def fan_out(hub: HubPort, committed: Committed, evaluating: Work | None) -> None:
    """Owe the events of a change. Only the last frame of it that a client gets carries the position
    (see `frame`). What is left of `evaluating` may be spent on filters that have to be evaluated.
    """
    change = committed.change
    seq = change.position.seq
    position = str(change.position).encode()
    pairs = _owed(committed)
    # A position says that all up to it has arrived, so it stands on a group's last frame alone: who
    # is cut off between two of them resumes from before the change.
    last: dict[Group[Client], int] = {}
    for index, (audience, _) in enumerate(pairs):
        for group in audience.groups:
            last[group] = index
    work = Meter(hub.settings.match_work)
    known: object = None
    place: Place | None = None
    type_, members = "", b""
    for index, (audience, event) in enumerate(pairs):
        if event is STALE:
            skipped = Skipped(audience, seq)
            for group in audience.groups:
                group.append(skipped)
            continue
        is_whole = event.kind == "snapshot"
        # By identity: all who have the edit as it is share one event (see `Index.match`), and what
        # is the same for all of them, the value, is encoded once.
        if event is not known and not is_whole:
            known = event
            type_, members = members_of(event, change.time_ms)
            gone = event.kind == "delete"
            place = None if event.kind == "failed" else Place(event.path, gone, change.time_ms)
        encoded: dict[tuple[Kind, bool, int], Frame] = {}
        for group in audience.groups:
            kind, with_id, most = variant = (group.kind, last[group] == index, group.max_event)
            frame = encoded.get(variant)
            if frame is None:
                if is_whole:
                    is_evaluated = audience.selection.evaluated is not None
                    frame = snapshot(
                        hub,
                        audience,
                        kind,
                        id=with_id,
                        droppable=True,
                        most=most,
                        work=evaluating if evaluating and is_evaluated else work,
                    )
                else:
                    id = position if with_id else None
                    data = document_frame(kind, type_, audience.filter_json, members, id)
                    data = fitted(data, kind, event, change.time_ms, audience.filter_json, id, most)
                    frame = Frame(data, audience, seq, place=place)
                encoded[variant] = frame
            group.append(frame)


def _owed(committed: Committed) -> list[Owed]:
    """Who is owed which event, in the order of the change."""
    seq = committed.change.position.seq
    matched = committed.matched
    whole = told_whole(matched)
    stale: dict[Selection, Evaluated] = {
        selection: selection.evaluated
        for selection, events in (matched if whole else ())
        if events[0] is STALE and selection.evaluated
    }
    now = trio.current_time()
    pairs: list[Owed] = []
    snapshots: set[Audience] = set()
    for selection, events in matched:
        audience: Audience | None = selection.watchers
        if audience is None:
            continue
        if selection not in whole:
            pairs += [(audience, event) for event in events]
        elif audience not in snapshots:
            # It is made of the document as the whole change leaves it: it stands for all.
            snapshots.add(audience)
            if selection not in stale:
                pairs.append((audience, WHOLE))
            elif audience.rest.is_known:
                audience.rest.skip(seq)  # all are owed a snapshot anyhow, when it has rested
            elif now >= audience.rest.until and not stale[selection].rests:
                audience.rest.ordered(now)
                pairs.append((audience, WHOLE))
            else:
                audience.rest.is_known = True
                pairs.append((audience, STALE))
    return pairs
