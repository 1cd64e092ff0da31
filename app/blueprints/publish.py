"""`POST /publish`: a message to rooms, to one client, or to the clients that carry certain tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import Visit, gated
from triode.app.blueprints.json_answer import json_response
from triode.app.blueprints.request_body import JSON, media_type, members, read_json
from triode.app.service.execute import execute

if TYPE_CHECKING:
    from quart import Blueprint

    from triode.app.service.triode import Triode


def blueprint(triode: Triode) -> Blueprint:
    """The route of `/publish`: the command of the same name, without a sender to leave out."""
    bp = gated("triode_publish", triode)
    limit = triode.settings.max_body_bytes
    bodies = triode.bodies

    @bp.direct("/publish", "POST")
    async def publish(seen: Visit) -> Response:
        media_type(seen.head, [JSON])
        body = await read_json(seen.body, limit, bodies, max_depth=triode.settings.max_depth)
        message = members(body, ("room", "to", "tags", "event", "data"))
        command = {"type": "publish", **message}
        return json_response(await execute(triode, command, seen.principal))

    return bp
