"""`/store`: read, set, patch and remove places of the document over HTTP (docs/wire.md, HTTP).

Positions are the validators: the `ETag` of an answer is the position of the document when it was
read. So it says more than is needed (anything may have changed since), and the question behind
`If-None-Match` and `If-Match` is put to the history, which knows whether *this* place changed since
that position. When the history no longer reaches back, it counts as changed.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace
from quart_trio.wrappers import TrioResponse as Response

from triode.app.access.write_rights import may_read, read_refusal
from triode.app.blueprints.conditional import (
    conditions,
    not_modified,
    require_match,
    write_condition,
)
from triode.app.blueprints.gated import Visit, gated
from triode.app.blueprints.json_answer import (
    item_pieces,
    json_response,
    stream_json,
    value_pieces,
)
from triode.app.blueprints.request_body import (
    JSON,
    JSON_PATCH,
    MERGE_PATCH,
    in_hand,
    media_type,
    read_json,
)
from triode.app.service.decision import first_answer
from triode.app.service.execute import check_path, write_answer
from triode.app.service.expiring import expires_in, read_ttl
from triode.app.service.filter_parsing import readable
from triode.app.service.holdings import require_pin_room
from triode.app.service.position_wait import FIELD as POSITION_FIELD
from triode.app.service.position_wait import reach
from triode.app.service.reading import Reading
from triode.app.service.write_key import make_key
from triode.app.wire.refusal import Refusal, bad_request
from triode.app.wire.stream_request import check_position
from triode.app.wire.write_key import FIELD, key_of_field
from triode.store.filter import Filter, split_filters
from triode.store.operation import Delete, Merge, Operation, Patch, Push, Set, Touch, WriteError
from triode.store.path import Path, format_path
from triode.store.value import MISSING, Json

if TYPE_CHECKING:
    from quart import Blueprint

    from triode.app.net.request_head import Head
    from triode.app.service.triode import Triode
    from triode.limits.principal import Principal
    from triode.store.change import Position

# A shared cache must not keep it, and a private one must ask each time whether it is still so: that
# is what the ETag is for.
CACHE = "private, no-cache"


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/store` but for the batch."""
    bp = gated("triode_store", triode)
    settings = triode.settings
    content = partial(
        read_json,
        limit=settings.max_body_bytes,
        bodies=triode.bodies,
        max_depth=settings.max_depth,
    )

    @bp.direct("/store", "GET", "HEAD")
    async def read(seen: Visit) -> Response:
        filters = seen.head.params.get("filter")
        text = one(seen.head, "path")
        if filters is not None and text is not None:
            raise bad_request("give either path or filter, not both")
        asked = one(seen.head, "at")
        at = check_position(seen.head.get(POSITION_FIELD) if asked is None else asked, "at")
        if filters is not None:
            texts = [text for joined in filters for text in split_filters(joined)]
            if len(texts) > (most := triode.settings.max_filters):
                raise bad_request(f"too many filters; {most} are allowed", limit=most)
            chosen = await readable(triode.gate, seen.principal, texts)
            await reach(triode, at)
            return await _read_selected(triode, seen, chosen)
        [selection] = await readable(triode.gate, seen.principal, [required_path(text)])
        await reach(triode, at)
        if selection.is_path:
            return _read_place(triode, seen, selection)
        return await _read_selected(triode, seen, [selection], absent_is_404=True)

    async def overwrite(seen: Visit, path: Path) -> Response:
        media_type(seen.head, [JSON])
        with in_hand(triode.metrics, seen.head):
            value = await content(seen.body)
            return await _write(triode, seen, Set(path, value, _flag(seen.head, "create")))

    @bp.direct("/store", "PUT")
    async def put(seen: Visit) -> Response:
        return await overwrite(seen, check_path(required_path(one(seen.head, "path"))))

    @bp.direct("/store", "POST")
    async def post(seen: Visit) -> Response:
        text = one(seen.head, "path")
        touches = _flag(seen.head, "touch")
        if not touches and not _flag(seen.head, "push"):
            return await overwrite(seen, check_path("." if text is None else text))
        path = check_path(required_path(text))
        if touches:
            if one(seen.head, "ttl") is None:
                raise bad_request("say the new ttl in seconds; null is for ever")
            return await _write(triode, seen, Touch(path))
        media_type(seen.head, [JSON])
        with in_hand(triode.metrics, seen.head):
            return await _write(triode, seen, Push(path, await content(seen.body)))

    @bp.direct("/store", "PATCH")
    async def patch(seen: Visit) -> Response:
        path = check_path(required_path(one(seen.head, "path")))
        kind = media_type(seen.head, [JSON, MERGE_PATCH, JSON_PATCH])
        with in_hand(triode.metrics, seen.head):
            value = await content(seen.body)
            if kind == MERGE_PATCH:
                return await _write(triode, seen, Merge(path, value))
            if kind == JSON:
                return await _write(triode, seen, Set(path, value, _flag(seen.head, "create")))
            if not isinstance(value, list):
                raise bad_request("a JSON Patch is an array of operations (RFC 6902)")
            return await _write(triode, seen, Patch(path, value))

    @bp.direct("/store", "DELETE")
    async def delete(seen: Visit) -> Response:
        path = check_path(required_path(one(seen.head, "path")))
        return await _write(triode, seen, Delete(path))

    return bp


async def _write(triode: Triode, seen: Visit, op: Operation) -> Response:
    ttl = one(seen.head, "ttl")
    if ttl is not None:
        op = replace(op, ttl_ms=read_ttl(ttl))
    given = seen.head.get(FIELD)
    if given is None:
        conditional = await _conditional(triode, seen, op)
        position = await triode.write(conditional, seen.principal)
    else:
        position = await _write_once(triode, seen, op, key_of_field(given))
    answer = write_answer(triode.store, op, position)
    return json_response(answer, headers={"ETag": f'"{position}"'})


async def _write_once(triode: Triode, seen: Visit, op: Operation, text: str) -> Position:
    """A write with the key `text`. What it did itself is no reason to refuse it the second time, so
    its condition is looked at only if it is the first time.
    """
    head, principal = seen.head, seen.principal
    key = await make_key(principal, text, op, *conditions(head))
    first = first_answer(triode.store, key, triode.clock.unix_ms())
    if first is not None:
        return first
    conditional = await _conditional(triode, seen, op)
    return await triode.write(conditional, principal, key)


async def _conditional(triode: Triode, seen: Visit, op: Operation) -> Operation:
    """As `write_condition`. Others may have written what is not here yet: it is refused when that
    is.
    """
    head, grant = seen.head, seen.principal.grant
    end = None if triode.journal is None else triode.journal.end
    try:
        return write_condition(triode.store, head, grant, op)
    except Refusal as refusal:
        if refusal.status != 412 or end is None:
            raise
    await end.reach()
    return write_condition(triode.store, head, grant, op)


def _read_place(triode: Triode, seen: Visit, selection: Filter) -> Response:
    """The bare value at a definite path, or 404.

    No checkpoint from here on: position and value belong together.
    """
    path, value = _find(triode, seen.principal, selection.path or ())
    headers = {"ETag": f'"{triode.store.position}"', "Cache-Control": CACHE}
    due_ms = triode.store.deadlines.find(path)
    if due_ms is not None:
        headers["Expires-In"] = expires_in(triode, due_ms)
    require_match(triode.store, seen.head, path)
    unchanged = not_modified(triode.store, seen.head, path)
    if unchanged is not None:
        return Response(b"", status=304, headers=headers | {"ETag": unchanged})
    pin = ExitStack()
    pin.enter_context(triode.store.document.pin())
    room = partial(require_pin_room, triode.ledger)
    return stream_json(seen.head.method, value_pieces(value), pin.close, room, headers)


def _find(triode: Triode, principal: Principal, asked: Path) -> tuple[Path, Json]:
    document = triode.store.document
    try:
        path = document.resolve(asked)
        value = document.get(path)
    except WriteError as error:
        raise read_refusal(principal.grant, document.root, error) from error
    if value is MISSING:
        raise Refusal(404, f"there is nothing at {format_path(path)}")
    return path, value


async def _read_selected(
    triode: Triode, seen: Visit, filters: list[Filter], *, absent_is_404: bool = False
) -> Response:
    """The list of all selected places, filter by filter; what several select comes once.

    All of the answer, its ETag too, is of the document as it is before the first wait.
    """
    document, grant = triode.store.document, seen.principal.grant
    first = filters[0].prefix
    # A prefix that may not be read must not be told from one that is empty.
    if absent_is_404 and document.get(first) is MISSING and may_read(grant, document.root, first):
        raise Refusal(404, f"there is nothing at {format_path(first)}")
    headers = {"ETag": f'"{triode.store.position}"', "Cache-Control": CACHE}
    places = [chosen.prefix for chosen in filters]
    require_match(triode.store, seen.head, *places)
    unchanged = not_modified(triode.store, seen.head, *places)
    if unchanged is not None:
        return Response(b"", status=304, headers=headers | {"ETag": unchanged})
    reading = Reading(triode, seen.principal, filters)
    try:
        await reading.afford()
    except BaseException:
        reading.close()
        raise
    room = partial(require_pin_room, triode.ledger)
    pieces = reading.pieces(item_pieces)
    return stream_json(seen.head.method, pieces, reading.close, room, headers)


def one(head: Head, name: str) -> str | None:
    """The value of a query parameter that may be given once. None when it is not there."""
    values = head.params.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise bad_request(f"{name} is given {len(values)} times; once is enough")
    return values[0]


def required_path(text: str | None) -> str:
    """`text`, or Refusal 400: a forgotten path must not mean the whole document."""
    if text is None:
        raise bad_request("path is missing; say path=. for the whole document")
    return text


def _flag(head: Head, name: str) -> bool:
    given = one(head, name)
    if given not in (None, "true", "false"):
        raise bad_request(f"{name} is true or false")
    return given == "true"
