"""`/connections`: the control API. List clients, send to them, tag them, close them.

Clients are selected by `id=` (any of several) and by tags (`tag.NAME=VALUE`, all of them; those
that clients give themselves are named `client.NAME`). No selector selects nobody, so that a
forgotten one does not reach everyone. Only the list, which harms nobody, is of all then.

For admins, and for whoever `control_from` names: that is an address, which the pages in a browser
on that machine have too, so pages of other origins are kept out.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import Visit, gated
from triode.app.blueprints.json_answer import json_response
from triode.app.blueprints.request_body import (
    JSON,
    decode_json,
    has_content,
    media_type,
    members,
    read_body,
    read_json,
)
from triode.app.service.client_queries import paced, portraits, select
from triode.app.service.return_times import ReturnTimes
from triode.app.wire import end_reasons
from triode.app.wire.frame import BINARY, TEXT, Frame, VerbatimFrame, control, ws_frame
from triode.app.wire.refusal import bad_request
from triode.app.wire.stream_request import check_limit, check_tag_count, check_tags, selectors
from triode.limits.own_tag import given_of, is_own
from triode.store.value import encode

if TYPE_CHECKING:
    from quart import Blueprint

    from triode.app.service.triode import Triode
    from triode.app.wire.frame import Kind
    from triode.store.value import Json

BYTES: Final = "application/octet-stream"
LISTED: Final = 1000
MOST_LISTED: Final = 10_000
FRESH: Final = {"Cache-Control": "no-store"}
KINDS: Final[tuple[Kind, ...]] = ("sse", "ws")


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent to clients: `data` for event streams, `payload` for WebSockets."""

    data: Json | bytes
    payload: bytes
    sender: str
    time_ms: int

    def frame(self, kind: Kind) -> Frame:
        """A WebSocket gets just the payload: it is the application's own protocol, as with other
        gateways. An event stream, which is text in lines, gets a `message`.
        """
        binary = isinstance(self.data, bytes)
        if kind == "ws":
            return VerbatimFrame(ws_frame(BINARY if binary else TEXT, self.payload))
        body: dict[str, Any] = {"room": None, "event": "message", "data": self.data}
        if binary:
            body |= {"data": base64.b64encode(self.payload).decode(), "encoding": "base64"}
        return Frame(control("sse", "message", body | {"from": self.sender, "time": self.time_ms}))


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/connections`."""
    bp = gated("triode_connections", triode, control=True)
    hub = triode.hub
    limit_bytes = triode.settings.max_message_bytes
    bodies = triode.bodies
    max_depth = triode.settings.max_depth

    def asked(seen: Visit) -> tuple[list[str], dict[str, str]]:
        """The selectors, read before the body so that a mistake in them costs none; they select
        when it has come. Raises `Refusal` 400, 401, 403.
        """
        triode.gate.require_admin(seen.principal)
        triode.gate.origins.check_origin(seen.head)
        return selectors(seen.head.params)

    async def message(seen: Visit) -> Message | None:
        """The body as what is to be sent; None when it is empty."""
        kind = media_type(seen.head, [JSON, BYTES])
        raw = bytes(await read_body(seen.body, limit_bytes, bodies))
        if not raw:
            return None
        data: Json | bytes = raw
        if kind == JSON:
            body = members(await decode_json(raw, max_depth=max_depth), ("data", "text"))
            if not body:
                return None
            if len(body) != 1 or not isinstance(body.get("text", ""), str):
                raise bad_request('send either "data", any JSON value, or "text", a string')
            data = body.get("text", body.get("data"))
            raw = body["text"].encode() if "text" in body else encode(body["data"])
        return Message(data, raw, seen.principal.name, triode.clock.unix_ms())

    @bp.direct("/connections", "GET", "HEAD")
    async def listing(seen: Visit) -> Response:
        ids, tags = asked(seen)
        limit = check_limit(seen.head.params, LISTED, MOST_LISTED)
        found = select(hub, ids, tags) if ids or tags else list(hub.clients.values())
        body = {"connections": await portraits(hub, found[:limit]), "total": len(found)}
        return json_response(body, headers=FRESH)

    @bp.direct("/connections/send", "POST")
    async def send(seen: Visit) -> Response:
        who = asked(seen)
        sent = await message(seen)
        if sent is None:
            raise bad_request('nothing to send: give "data", "text", or bytes')
        await hub.flusher.room()
        triode.metrics.messages_published += 1
        return json_response({"reached": hub.send(select(hub, *who), sent.frame)})

    @bp.direct("/connections/tags", "POST")
    async def tag(seen: Visit) -> Response:
        who = asked(seen)
        media_type(seen.head, [JSON])
        body = members(await read_json(seen.body, limit_bytes, bodies), ("tags",))
        tags = body.get("tags")
        if not isinstance(tags, dict):
            raise bad_request('"tags" must be an object of strings, null to take one away')
        tags = check_tags(tags, removable=True)
        own = next(filter(is_own, tags), None)
        if own is not None:
            raise bad_request(f"tag {own} is one that a client gives itself: choose another name")
        async for client in paced(select(hub, *who)):
            check_tag_count(given_of(hub.tags.merged(client, tags)))
        reached = 0
        async for client in paced(select(hub, *who)):
            hub.tags.update(client, tags)
            reached += 1
        return json_response({"reached": reached})

    @bp.direct("/connections/close", "POST")
    async def close(seen: Visit) -> Response:
        who = asked(seen)
        last = await message(seen) if has_content(seen.head) else None
        frames = {} if last is None else {kind: last.frame(kind) for kind in KINDS}
        chosen = [client async for client in paced(select(hub, *who))]
        times = ReturnTimes(triode.settings, chosen)
        reached = 0
        async for client in paced(chosen):
            if last is not None:
                hub.push(client, frames[client.kind])
            hub.end(client, end_reasons.NORMAL, retry_ms=times.next_ms(client))
            reached += 1
        return json_response({"reached": reached})

    return bp
