"""`/connections`: the control API. List clients, send to them, tag them, close them, at all Triodes
that share a log.

Clients are selected by `id=` (any of several) and by tags (`tag.NAME=VALUE`, all of them; those
that clients give themselves are named `client.NAME`). No selector selects nobody, so that a
forgotten one does not reach everyone. Only the list, which harms nobody, is of all then.

For admins, and for whoever `control_from` names: that is an address, which the pages in a browser
on that machine have too, so pages of other origins are kept out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

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
from triode.app.service.control import Message, Order, carry_out
from triode.app.wire.refusal import bad_request
from triode.app.wire.stream_request import check_limit, check_tags, selectors
from triode.limits.own_tag import is_own
from triode.store.value import encode

if TYPE_CHECKING:
    from quart import Blueprint

    from triode.app.service.triode import Triode

BYTES: Final = "application/octet-stream"
LISTED: Final = 1000
MOST_LISTED: Final = 10_000
FRESH: Final = {"Cache-Control": "no-store"}


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/connections`."""
    bp = gated("triode_connections", triode, control=True)
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
        form: Literal["json", "text", "bytes"] = "bytes"
        if kind == JSON:
            body = members(await decode_json(raw, max_depth=max_depth), ("data", "text"))
            if not body:
                return None
            if len(body) != 1 or not isinstance(body.get("text", ""), str):
                raise bad_request('send either "data", any JSON value, or "text", a string')
            form = "text" if "text" in body else "json"
            raw = body["text"].encode() if form == "text" else encode(body["data"])
        return Message(form, raw, seen.principal.name, triode.clock.unix_ms())

    async def done(order: Order) -> dict[str, Any]:
        """Where the clients are: here, or at other Triodes that share the log."""
        peers = triode.peers
        return await (carry_out(triode, order) if peers is None else peers.order(order))

    @bp.direct("/connections", "GET", "HEAD")
    async def listing(seen: Visit) -> Response:
        ids, tags = asked(seen)
        limit = check_limit(seen.head.params, LISTED, MOST_LISTED)
        return json_response(await done(Order("list", ids, tags, limit)), headers=FRESH)

    @bp.direct("/connections/send", "POST")
    async def send(seen: Visit) -> Response:
        who = asked(seen)
        sent = await message(seen)
        if sent is None:
            raise bad_request('nothing to send: give "data", "text", or bytes')
        return json_response(await done(Order("send", *who, message=sent)))

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
        return json_response(await done(Order("tag", *who, new_tags=tags)))

    @bp.direct("/connections/close", "POST")
    async def close(seen: Visit) -> Response:
        who = asked(seen)
        last = await message(seen) if has_content(seen.head) else None
        return json_response(await done(Order("close", *who, message=last)))

    return bp
