"""The start of a stream: from a request head to a registered client that is owed its first frames.

`admit` checks, without taking anything. `begin` subscribes and owes the first frames in one
synchronous step, so that snapshot and registration see the same document and nothing falls
between them.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import trio
from msgspec import structs

from triode.app.delivery import resume
from triode.app.delivery.lazy_frame import joined
from triode.app.delivery.snapshot import snapshots
from triode.app.delivery.subscriber import Lease
from triode.app.service.filter_parsing import readable
from triode.app.service.holdings import require_client_room, require_filter_room
from triode.app.service.position_wait import reach, reach_if_any
from triode.app.wire import end_reasons, subprotocol
from triode.app.wire.frame import Frame, VerbatimFrame, control
from triode.app.wire.known_names import check_query
from triode.app.wire.refusal import bad_request
from triode.app.wire.stream_request import check_position, from_json, from_query
from triode.limits.own_tag import as_own
from triode.store.value import MISSING

if TYPE_CHECKING:
    from triode.app.delivery.audience import Audience
    from triode.app.delivery.hub import Hub
    from triode.app.delivery.subscriber import Client, Lane
    from triode.app.net.request_head import Head
    from triode.app.service.triode import Triode
    from triode.app.wire.frame import Kind
    from triode.app.wire.refusal import Refusal
    from triode.app.wire.stream_request import StreamRequest
    from triode.limits.policy import Policy
    from triode.limits.principal import Principal
    from triode.store.change import Position
    from triode.store.filter import Filter
    from triode.store.value import Json, Missing

SERVER: Final = "triode"
# How long a browser waits before it reconnects by itself: jittered, so that a cut does not become
# a stampede.
RETRY_MIN_MS: Final = 1000
RETRY_MAX_MS: Final = 3000

# Who names one of these in `Accept` can be told of a refusal by its status.
PROBLEM_KINDS: Final = {"application/problem+json", "application/*", "*/*"}

STREAM_FIELDS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


async def admit(
    triode: Triode, head: Head, body: Json | Missing = MISSING, *, socket: bool = False
) -> tuple[StreamRequest, Principal, dict[str, str]]:
    """Check everything that can be checked before a stream is opened. Raises `Refusal`.

    `body` is that of `POST /events`, in place of the query. `socket`: it is a WebSocket, which the
    head does not say in HTTP/2 (RFC 8441 has no `Upgrade`).

    Gives what was asked for, who asked, and the header fields to answer with.
    """
    gate, settings = triode.gate, triode.settings
    gate.origins.check_host(head)
    if socket:
        gate.origins.check_origin(head)
        subprotocol.chosen(head.members(subprotocol.FIELD))
    last_event_id = head.get("last-event-id")
    returns = bool(last_event_id or head.params.get("lastEventId") or head.params.get("since"))
    principal, fields = await gate.visit(head, returns=returns)
    route, route_tags = triode.route_of(head.decoded_path)
    check_query("/ws" if socket else "/events", head.method, head.params)
    if body is MISSING:
        request = from_query(head.params, last_event_id, settings, whole=not socket)
    else:
        request = from_json(body, last_event_id, settings)
    if socket and request.lease_s is not None:
        raise bad_request("lease is for event streams; a WebSocket is kept alive by its pongs")
    if socket and request.heartbeat_events:
        raise bad_request("heartbeat is for event streams; a WebSocket has the command ping")
    filters = tuple(await readable(gate, principal, request.texts))
    require_filter_room(triode.ledger, triode.store, filters)
    if request.rooms or request.tags:
        require_client_room(triode.ledger)
    tags = as_own(request.tags) | route_tags
    request = structs.replace(request, filters=filters, route=route, tags=tags)
    for room in request.rooms:
        gate.require_room(principal, room)
    await reach(triode, check_position(request.at, "at"))
    if filters or triode.hub.rooms.are_shared:
        await reach_if_any(triode, request.since)
    if triode.draining:
        raise triode.going_away()
    return request, principal, fields


def come_back_later(refusal: Refusal, head: Head) -> bytes | None:
    """The whole stream to answer with, status 200, in place of a refusal that a native EventSource
    would not survive; None where the refusal itself is the answer.

    After any status but 200 an EventSource is closed for good (HTML Standard 9.2.3, "fail the
    connection"); after the end of a stream it comes back. It has to be an answer: without one a
    proxy makes its own, 502. A client that can read a refusal says so in `Accept`. Only GET: an
    EventSource knows no other method.
    """
    is_momentary = refusal.status in (429, 503)
    if not is_momentary or not _is_browser_stream(head):
        return None
    wait_ms = round(float(refusal.extra.get("retry_after", 1)) * 1000)
    retry_ms = wait_ms + random.randint(RETRY_MIN_MS, RETRY_MAX_MS)
    return b"retry: %d\n: %d, come back later\n\n" % (retry_ms, refusal.status)


def _is_browser_stream(head: Head) -> bool:
    if head.method != "GET":
        return False
    kinds = {text.partition(";")[0].strip() for text in head.tokens("accept")}
    return "text/event-stream" in kinds and not kinds & PROBLEM_KINDS


def begin(hub: Hub, client: Client, request: StreamRequest, *, version: str) -> None:
    """Subscribe a newly opened client to what it asked for: `connected`, then its snapshots or
    what it missed.
    """
    client.policy = request.policy
    client.max_event = request.max_event
    wanted = [(filter, request.policy) for filter in request.filters]
    audiences = hub.subscribe(client, wanted) if wanted else []
    rooms = [hub.join(client, room) for room in request.rooms]
    lone = rooms[0] if len(rooms) == 1 and not audiences else None
    if lone is not None:
        missed = hub.rooms.missed(client.kind, {lone: request.since}).get(lone)
    else:
        missed = resume.missed(hub, client.kind, audiences, request, most=client.max_event)
    resumed = missed is not None
    body: dict[str, Any] = {
        "client": client.id,
        "secret": client.secret,
        "epoch": hub.store.epoch,
        "resumed": resumed,
        "server": f"{SERVER}/{version}",
        "heartbeat_s": hub.settings.heartbeat_s,
    }
    client.sees_heartbeats = request.heartbeat_events
    if request.lease_s is not None:
        client.lease = Lease(request.lease_s, trio.current_time())
        body["lease_s"] = request.lease_s
    if client.kind == "ws" and rooms:
        reached = request.since if missed and lone is not None else None
        body["positions"] = {r.name: str(reached or hub.rooms.position(r)) for r in rooms}
    # What follows carries the position; where nothing does, this frame has to.
    id: Position | None = None
    if audiences and not (resumed or request.snapshot or request.resume):
        id = hub.store.position
    elif lone is not None and client.kind == "sse" and not missed:
        id = hub.rooms.position(lone)
    data = control(client.kind, "connected", body, id=None if id is None else str(id))
    if client.kind == "sse":
        retry_ms = random.randint(RETRY_MIN_MS, RETRY_MAX_MS)
        data = b"retry: %d\n" % retry_ms + data
    # Nothing can be lost before it: its position is true whatever is lost later.
    hub.push(client, VerbatimFrame(data))
    if hub.status is not None:
        hub.push(client, Frame(control(client.kind, "status", hub.status)))
    _first(hub, client, audiences, request, missed)


def add(
    hub: Hub,
    client: Client,
    filter: Filter,
    policy: Policy,
    request: StreamRequest,
    ref: dict[str, Any],
) -> None:
    """Subscribe a living WebSocket client to one more filter: its `ok`, then a snapshot or what
    it missed.
    """
    # Where positions have been told already, those of the past would go back.
    alone = not client.subscriptions
    if request.max_event:
        client.max_event = request.max_event
    audiences = hub.subscribe(client, [(filter, policy)])
    missed = resume.missed(hub, client.kind, audiences, request, ids=alone, most=client.max_event)
    members = {"filter": filter.text, "resumed": missed is not None}
    if not (request.snapshot or request.resume):
        members["id"] = str(hub.store.position)
    hub.tell(client, "ok", ref | members)
    _first(hub, client, audiences, request, missed)


def _first(
    hub: Hub,
    client: Client,
    audiences: list[Audience],
    request: StreamRequest,
    missed: list[Frame] | None,
) -> None:
    """Owe a client its first frames: exactly what it missed, or the state."""
    if missed is not None:
        hub.metrics.resumes_total += 1
        for frame in missed:
            hub.push(client, frame)
        return
    if request.resume and (audiences or client.rooms):
        hub.metrics.resumes_refused += 1
    if request.snapshot or request.resume:
        frames = snapshots(hub, audiences, client.kind, client.max_event)
        if frames:
            hub.push(client, joined(frames))


def open_stream(
    triode: Triode,
    kind: Kind,
    lane: Lane,
    head: Head,
    request: StreamRequest,
    principal: Principal,
    *,
    first: bytes = b"",
) -> Client:
    """Register a client and owe it `first` and its first events, in one step.

    Raises `Refusal` 503 when there is no place; then nothing is left behind.
    """
    ip = triode.gate.address(head)
    ticket = triode.gate.admit(ip, principal)
    client = triode.hub.open(kind, lane, principal, ip, request.tags)
    client.ticket = ticket
    client.is_browser_stream = kind == "sse" and _is_browser_stream(head)
    client.rates = triode.gate.rates_of(request.route)
    if first:
        triode.hub.push(client, Frame(first, count=0))
    try:
        begin(triode.hub, client, request, version=triode.version)
    except BaseException:
        triode.hub.end(client, end_reasons.FAULT, "silently")
        raise
    return client
