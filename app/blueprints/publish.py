"""`POST /publish`: a message to rooms, to one client, or to the clients that carry certain tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from app.blueprints._answer import json_response
from app.blueprints._request import gated, visit
from app.content import JSON, media_type, members, read_json

if TYPE_CHECKING:
    from app.triode import Triode


def blueprint(triode: Triode) -> Blueprint:
    """The route of `/publish`: the command of the same name, without a sender to leave out."""
    bp = gated("triode_publish", triode)
    limit = triode.settings.max_body_bytes

    @bp.post("/publish")
    async def publish() -> Response:
        media_type(request, [JSON])
        body = await read_json(request, limit, max_depth=triode.settings.max_depth)
        message = members(body, ("room", "to", "tags", "event", "data"))
        command = {"type": "publish", **message}
        return json_response(await triode.execute(command, visit().principal))

    return bp
