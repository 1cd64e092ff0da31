"""`If-None-Match`, `If-Match` and `if`: conditions on the position at which a client last saw a
place (RFC 9110 section 13).

An entity tag is a position in quotes. Whether a place is still as it was at a position is asked of
the history. A write's condition travels with the operation and is decided where the write is
applied, so nothing can come between.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from triode.app.access.write_rights import require_operation
from triode.app.service.execute import check_position
from triode.app.wire.refusal import Refusal, bad_request
from triode.store.change import Position, parse_position
from triode.store.operation import WriteError
from triode.store.value import MISSING

if TYPE_CHECKING:
    from triode.app.net.request_head import Head
    from triode.limits.grant import Grant
    from triode.store.operation import Operation
    from triode.store.path import Path
    from triode.store.store import Store

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def not_modified(store: Store, head: Head, *paths: Path) -> str | None:
    """The tag of `If-None-Match` that still holds for all of `paths`, in quotes; None: send the
    value.

    It is the client's own tag, not the newest, so that its cache knows which stored answer is meant
    (RFC 9111 section 4.3.4).
    """
    given = head.get("if-none-match")
    if given is None:
        return None
    if given.strip() == "*":
        return f'"{store.position}"'
    for _weak, text in _TAG.findall(given):
        position = parse_position(text)
        if position is not None and all(unchanged(store, path, position) for path in paths):
            return f'"{text}"'
    return None


def unchanged(store: Store, path: Path, position: Position) -> bool:
    """Whether the place is known not to have changed after `position`."""
    known = position.epoch == store.epoch and position.seq <= store.seq
    return known and store.history.touched_since(path, position.seq) is False


def write_condition(store: Store, head: Head, grant: Grant, op: Operation) -> Operation:
    """`op` with the condition that the request puts on it.

    Raises Refusal 412 when it cannot hold, 400 when malformed, 403 without the rights to a write
    with a condition.
    """
    match, none_match = head.get("if-match"), head.get("if-none-match")
    asked = head.params.get("if")
    if match is None and none_match is None and asked is None:
        return op
    # Before it is looked at: whoever may not read here is not told what is here.
    require_operation(grant, store.document.root, replace(op, if_position=store.position))
    position: Position | None
    if match is not None:
        position = _of_if_match(store, op.path, match)
    elif none_match is not None:
        position = _of_if_none_match(store, op.path, none_match)
    else:
        assert asked is not None
        if len(asked) > 1:
            raise bad_request("if is given several times; once is enough")
        position = check_position(asked[0])
    return replace(op, if_position=position)


def _of_if_match(store: Store, path: Path, given: str) -> Position:
    if given.strip() == "*":
        if not _is_there(store, path):
            raise _failed("there is nothing at the place, and If-Match: * wants something")
        return store.position
    # Strong comparison: a weak tag never matches. The newest of several asks for the least, so it
    # alone decides.
    positions = [parse_position(text) for weak, text in _TAG.findall(given) if not weak]
    usable = [one for one in positions if one is not None and one.epoch == store.epoch]
    if not usable:
        raise _failed("If-Match holds no position of this epoch; read the place again")
    return max(usable)


def _of_if_none_match(store: Store, path: Path, given: str) -> Position:
    """On writes only `*` makes sense: create, but do not overwrite."""
    if given.strip() != "*":
        raise bad_request("on a write, If-None-Match can only be *")
    if _is_there(store, path):
        raise _failed("there is something at the place, and If-None-Match: * wants nothing")
    return store.position


def _is_there(store: Store, path: Path) -> bool:
    try:
        return store.document.get(store.document.resolve(path)) is not MISSING
    except WriteError:
        return False


def _failed(detail: str) -> Refusal:
    return Refusal(412, detail)
