"""Opening a stream: from a request head to a registered client that is owed its first frames.

`admit` checks, without taking anything. `begin` subscribes and owes the first frames in one
synchronous step, so that snapshot and registration see the same document and nothing falls
between them.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from app.frame import Frame, control, document_frame, members_of
from app.head import is_upgrade
from app.origin import check_origin
from app.outbox import Feed, joined
from app.request import from_json, from_query
from app.snapshot import FRAME_BYTES, snapshot
from store.value import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.client import Client
    from app.frame import Kind
    from app.head import Head
    from app.hub import Hub
    from app.request import StreamRequest
    from app.source import Audience
    from app.triode import Triode
    from limits.policy import Policy
    from limits.principal import Principal
    from store.value import Json, Missing

SERVER: Final = "triode"
# How long a browser waits before it reconnects by itself: jittered, so that a cut does not become
# a stampede.
RETRY_MIN_MS: Final = 1000
RETRY_MAX_MS: Final = 3000


STREAM_FIELDS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


def admit(
    triode: Triode, head: Head, body: Json | Missing = MISSING
) -> tuple[StreamRequest, Principal, dict[str, str]]:
    """Check everything that can be checked before a stream is opened. Raises `Refusal`.

    `body` is that of `POST /events`, in place of the query.

    Gives what was asked for, who asked, and the header fields to answer with.
    """
    gate, settings = triode.gate, triode.settings
    socket = is_upgrade(head)
    if socket:
        check_origin(head, settings)
    principal, fields = gate.visit(head)
    route, route_tags = triode.route_of(head.decoded_path)
    last_event_id = head.get("last-event-id")
    if body is MISSING:
        request = from_query(head.params, last_event_id, settings, whole=not socket)
    else:
        request = from_json(body, last_event_id, settings)
    request = replace(request, route=route, tags=request.tags | route_tags)
    for text in request.filters:
        gate.require_read(principal, text)
    for room in request.rooms:
        gate.require_room(principal, room)
    if triode.draining:
        raise triode.going_away()
    return request, principal, fields


def begin(hub: Hub, client: Client, request: StreamRequest, *, version: str) -> None:
    """Subscribe a newly opened client to what it asked for: `connected`, then its snapshots or
    what it missed.
    """
    texts = [(text, request.policy) for text in request.filters]
    audiences = hub.subscribe(client, texts) if texts else []
    for room in request.rooms:
        hub.join(client, room)
    missed = _missed(hub, client.kind, audiences, request)
    resumed = missed is not None
    follows = bool(audiences) and (resumed or request.snapshot or request.resume)
    body: dict[str, Any] = {
        "client": client.id,
        "epoch": hub.store.epoch,
        "resumed": resumed,
        "server": f"{SERVER}/{version}",
        "heartbeat_s": hub.settings.heartbeat_s,
    }
    # What follows carries the position; where nothing does, this frame has to.
    id = str(hub.store.position) if audiences and not follows else None
    data = control(client.kind, "connected", body, id=id)
    if client.kind == "sse":
        retry_ms = random.randint(RETRY_MIN_MS, RETRY_MAX_MS)  # noqa: S311 # spreads a herd
        data = b"retry: %d\n" % retry_ms + data
    hub.push(client, Frame(data))
    _first(hub, client, audiences, request, missed)


def add(
    hub: Hub,
    client: Client,
    text: str,
    policy: Policy,
    request: StreamRequest,
    ref: dict[str, Any],
) -> None:
    """Subscribe a living WebSocket client to one more filter: its `ok`, then a snapshot or what
    it missed.
    """
    # Where positions have been told already, those of the past would go back.
    alone = not client.subscriptions
    audiences = hub.subscribe(client, [(text, policy)])
    missed = _missed(hub, client.kind, audiences, request, ids=alone)
    members = {"filter": text, "resumed": missed is not None}
    if not (request.snapshot or request.resume):
        members["id"] = str(hub.store.position)
    hub.tell(client, "ok", ref | members)
    _first(hub, client, audiences, request, missed)


def _first(
    hub: Hub,
    client: Client,
    audiences: list[Audience],
    request: StreamRequest,
    missed: list[bytes] | None,
) -> None:
    """Owe a client its first frames: exactly what it missed, or the state."""
    if missed is not None:
        hub.metrics.resumes_total += 1
        if sum(map(len, missed)) <= FRAME_BYTES:
            hub.push(client, Frame(b"".join(missed)))
        else:
            hub.push(client, Feed(_joined(missed)))
        return
    if request.resume and audiences:
        hub.metrics.resumes_refused += 1
    if request.snapshot or request.resume:
        frames = [
            snapshot(hub.store, audience, client.kind, id=audience is audiences[-1])
            for audience in audiences
        ]
        if frames:
            hub.push(client, joined(frames))
        hub.metrics.snapshots_total += len(audiences)


def _missed(
    hub: Hub,
    kind: Kind,
    audiences: Sequence[Audience],
    request: StreamRequest,
    *,
    ids: bool = True,
) -> list[bytes] | None:
    """The frames missed since the position that was asked for; None when it can't be resumed from
    there.
    """
    if request.since is None or not audiences or not hub.store.can_resume(request.since):
        return None
    by_text = {audience.selection.filter.text: audience for audience in audiences}
    filters = [audience.selection.filter for audience in audiences]
    try:
        missed = hub.store.missed(filters, request.since)
    except ValueError:  # too costly to replay, or a filter that can no longer be evaluated
        return None
    frames: list[bytes] = []
    for position, replayed in groupby(missed, key=lambda part: part.position):
        parts = [
            (by_text[part.filter.text].filter_json, members_of(event, part.time_ms))
            for part in replayed
            for event in part.events
        ]
        for index, (filter_json, (type_, members)) in enumerate(parts):
            told = (ids or position.seq == hub.store.seq) and index == len(parts) - 1
            id = str(position).encode() if told else None
            frames.append(document_frame(kind, type_, filter_json, members, id))
    return frames


def _joined(frames: list[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for data in frames:
        batch.append(data)
        size += len(data)
        if size >= FRAME_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)
