"""`If-None-Match`, `If-Match` and `if`: conditions on the position at which a client last saw a
place (RFC 9110 section 13).

An entity tag is a position in quotes. Whether a place is still as it was at a position is asked of
the history. A write's condition travels with the operation and is decided where the write is
applied, so nothing can come between.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from triode.app.access.write_rights import require_operation
from triode.app.service.expected import read_expected
from triode.app.wire.refusal import Refusal, bad_request
from triode.app.wire.stream_request import check_if
from triode.store.change import Position, parse_position
from triode.store.operation import Push, Set, WriteError
from triode.store.value import MISSING
from triode.store.work import FREE

if TYPE_CHECKING:
    from triode.app.net.request_head import Head
    from triode.limits.grant import Grant
    from triode.store.operation import Operation
    from triode.store.path import Path
    from triode.store.store import Store

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# Apache's mod_deflate and mod_brotli, and those who copy them.
_CODED: Final = re.compile(r"[-;](gzip|br|deflate|zstd)$")


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
        position = _position(text)
        if position is not None and all(unchanged(store, path, position) for path in paths):
            return f'"{text}"'
    return None


def require_match(store: Store, head: Head, *paths: Path) -> None:
    """For a read of places that are there. Raises Refusal 412 when `If-Match` has no tag that
    still holds for all of `paths` (RFC 9110 section 13.1.1).
    """
    given = head.get("if-match")
    if given is None or given.strip() == "*":
        return
    position = _newest(store, given)
    if not all(unchanged(store, path, position) for path in paths):
        raise _failed("what is asked for has changed since the position in If-Match")


def unchanged(store: Store, path: Path, position: Position) -> bool:
    """Whether the place is known not to have changed after `position`."""
    seq = store.seq_of(position)
    return seq is not None and store.touched.since(path, seq) is False


def conditions(head: Head) -> list[str]:
    """What a request says of the condition on its write, as it says it."""
    return [head.get("if-match") or "", head.get("if-none-match") or "", *head.params.get("if", ())]


def write_condition(store: Store, head: Head, grant: Grant, op: Operation) -> Operation:
    """`op` with the condition that the request puts on it.

    Raises Refusal 412 when it cannot hold, 400 when malformed, 403 without the rights to a write
    with a condition.
    """
    match, none_match = head.get("if-match"), head.get("if-none-match")
    asked = head.params.get("if")
    if match is None and none_match is None and asked is None:
        return op
    if asked is not None and len(asked) > 1:
        raise bad_request("if is given several times; once is enough")
    if asked is not None and asked[0].startswith("{"):
        op = replace(op, if_value=read_expected(asked[0]))
        asked = None
    # Before it is looked at: whoever may not read here is not told what is here. The rest of what
    # the operation needs is asked when it is planned.
    kind: Operation = Push(op.path, None) if isinstance(op, Push) else Set(op.path, None)
    here = replace(kind, if_position=store.position)
    require_operation(grant, store.document.root, here, FREE)
    position: Position | None
    if match is not None:
        position = _of_if_match(store, op.path, match)
    elif none_match is not None:
        if none_match.strip() != "*":
            _require_no_match(store, head, op.path)
            # What has changed since stays changed: nothing is left to ask when it is applied.
            return op
        position = _of_if_none_match(store, op.path)
    elif asked is None:
        return op
    else:
        position = check_if(asked[0])
    return replace(op, if_position=position)


def _of_if_match(store: Store, path: Path, given: str) -> Position:
    if given.strip() == "*":
        if not _is_there(store, path):
            raise _failed("there is nothing at the place, and If-Match: * wants something")
        return store.position
    return _newest(store, given)


def _newest(store: Store, given: str) -> Position:
    """The newest position of `If-Match`, which asks for the least and so decides alone.

    Strong comparison: a weak tag never matches. Raises Refusal 412 when none is usable.
    """
    tags = _TAG.findall(given)
    positions = [_position(text) for weak, text in tags if not weak]
    usable = [one for one in positions if one is not None and store.lineage.knows(one.epoch)]
    if usable:
        return max(usable, key=lambda one: one.seq)
    if any(weak for weak, _text in tags):
        raise _failed(
            'If-Match holds only weak tags (W/"…"), which never match (RFC 9110 section 13.1.1): '
            'a proxy that compresses makes them; send the position alone, as "EPOCH:SEQ"'
        )
    raise _failed("If-Match holds no position of this epoch; read the place again")


def _position(text: str) -> Position | None:
    """The position in a tag. Some proxies add to it how they have coded the content."""
    return parse_position(_CODED.sub("", text))


def _require_no_match(store: Store, head: Head, path: Path) -> None:
    """Raises Refusal 412 when the place is as it was at one of the positions of `If-None-Match`
    (RFC 9110 section 13.1.2).
    """
    if _is_there(store, path) and not_modified(store, head, path) is not None:
        raise _failed("the place has not changed since a position in If-None-Match")


def _of_if_none_match(store: Store, path: Path) -> Position:
    """With `*`: create, but do not overwrite."""
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
