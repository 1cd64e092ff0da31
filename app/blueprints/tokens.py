"""`/token`: what one's own token is. `/tokens`: issue, list and revoke the server's own tokens.
`/streams`: renew living streams.
"""

from __future__ import annotations

from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from msgspec import Raw
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import gated, no_content, visit
from triode.app.blueprints.json_answer import json_response
from triode.app.blueprints.request_body import JSON, has_content, media_type, members, read_json
from triode.app.runtime.turns import turn
from triode.app.service import issuing
from triode.app.service import renewal as stream_token
from triode.app.wire.refusal import Refusal, bad_request
from triode.app.wire.stream_request import check_limit
from triode.limits.grant import MEMBERS, Grant
from triode.limits.principal import credentials
from triode.limits.token import DEFAULT_TTL_S, Mark, Page, TokensFull
from triode.store.filter import parse_filter
from triode.store.value import encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triode.app.service.triode import Triode

# A request for a token is small; nobody needs 20 MiB to say what may be read.
MAX_TOKEN_BYTES = 256 * 1024
SECRET = {"Cache-Control": "no-store"}
# Of a page, and of one turn.
LISTED = 1000
SHOWN_AT_ONCE = 50


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/tokens`, for admins. With authentication off everybody is one."""
    bp = gated("triode_tokens", triode)
    bodies = triode.bodies

    async def admins_only() -> None:
        triode.gate.require_admin(visit().principal)

    bp.before_request(admins_only)

    @bp.post("/tokens")
    async def issue() -> Response:
        media_type(visit().head, [JSON])
        asked = members(
            await read_json(visit().body, MAX_TOKEN_BYTES, bodies),
            ("grant", *MEMBERS, "ttl_s", "label"),
        )
        try:
            issued = await issuing.issue(
                triode,
                _grant(asked),
                ttl_s=_ttl_s(asked),
                label=_label(asked),
                by=visit().principal,
            )
        except TokensFull as full:
            raise Refusal(409, str(full), extra={"limit": full.limit}) from full
        except ValueError as error:
            raise bad_request(str(error)) from error
        body = {"token": issued.secret, **issued.info.to_json()}
        return json_response(body, 201, SECRET | {"Location": f"{request.path}/{issued.info.id}"})

    @bp.get("/tokens")
    async def listing() -> Response:
        params, now = visit().head.params, triode.gate.clock.unix_s()
        page = triode.tokens.page(now, check_limit(params, LISTED, LISTED), _after(params))
        return json_response(await _shown(page), headers=SECRET)

    @bp.delete("/tokens/<token_id>")
    async def revoke(token_id: str) -> Response:
        if not await issuing.revoke(triode, token_id, by=visit().principal):
            raise Refusal(404, "there is no token with this id")
        return no_content(SECRET)

    return bp


def own(triode: Triode) -> Blueprint:
    """The route that tells a caller who it is here, and what it may do."""
    bp = gated("triode_token", triode)

    @bp.get("/token")
    async def mine() -> Response:
        who = visit().principal
        body = {
            "name": who.name,
            "source": who.source,
            "id": who.token_id,
            "grant": who.grant.to_json(),
            "expires_at": who.expires_at,
        }
        return json_response(body, headers=SECRET)

    return bp


def renewal(triode: Triode) -> Blueprint:
    """The routes that renew a stream: its token, and its lease.

    Both want the stream's own secret in the body. The new token comes beside it, or as the
    credential of the request.
    """
    bp = gated("triode_renewal", triode, token=False)
    bodies = triode.bodies

    async def proven(*also: str) -> dict[str, Any]:
        """The body, with the secret. Raises `Refusal` 400 without one."""
        body: dict[str, Any] = {}
        seen = visit()
        if has_content(seen.head):
            media_type(seen.head, [JSON])
            body = members(await read_json(seen.body, MAX_TOKEN_BYTES, bodies), ("secret", *also))
        if not isinstance(body.get("secret"), str):
            raise bad_request(
                'send {"secret": "…"}, the secret that the event connected gave this stream',
                member="secret",
            )
        return body

    @bp.post("/streams/<client_id>/token")
    async def renew(client_id: str) -> Response:
        body = await proven("token")
        shown = credentials(visit().head.get, {})
        token = body.get("token", shown[0] if shown else None)
        if not isinstance(token, str) or not token:
            raise bad_request(
                'the new token is missing: send it as "token", or as Authorization: Bearer'
            )
        stream_token.renew(triode, client_id, body["secret"], token)
        return no_content(SECRET)

    @bp.post("/streams/<client_id>/alive")
    async def alive(client_id: str) -> Response:
        stream_token.keep_alive(triode, client_id, (await proven())["secret"])
        return no_content(SECRET)

    return bp


async def _shown(page: Page) -> dict[str, Any]:
    """A page as it is sent, in turns."""
    tokens: list[Any] = []
    for at in range(0, len(page.infos), SHOWN_AT_ONCE):
        tokens += [Raw(encode(info.to_json())) for info in page.infos[at : at + SHOWN_AT_ONCE]]
        await turn()
    return {"tokens": tokens, "next": None if page.next is None else "{}~{}".format(*page.next)}


def _after(params: Mapping[str, Sequence[str]]) -> Mark | None:
    """Where a page begins: `next` of the one before. Raises `Refusal` 400."""
    text = params.get("after", [None])[-1]
    if text is None:
        return None
    made, _, token_id = text.partition("~")
    try:
        created_at = float(made)
    except ValueError:
        created_at = nan
    if not isfinite(created_at) or not token_id:
        raise bad_request('"after" must be what "next" of the page before says', parameter="after")
    return created_at, token_id


def _grant(asked: dict[str, Any]) -> Grant:
    """The grant, given whole or by its members.

    Raises ValueError that names the member at fault.
    """
    loose = {name: asked[name] for name in MEMBERS if name in asked}
    if "grant" not in asked:
        return Grant.from_json(loose, check=parse_filter)
    if loose:
        raise ValueError(f"give either grant or {', '.join(loose)}, not both")
    return Grant.from_json(asked["grant"], check=parse_filter)


def _ttl_s(asked: dict[str, Any]) -> float | None:
    """Seconds; the default is a day, null is until revoked."""
    ttl_s = asked.get("ttl_s", DEFAULT_TTL_S)
    if ttl_s is None:
        return None
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float):
        raise ValueError("ttl_s is a number of seconds, or null for a token without end")
    return float(ttl_s)


def _label(asked: dict[str, Any]) -> str:
    label = asked.get("label", "")
    if not isinstance(label, str):
        raise ValueError("label is a string")
    return label
