"""JSON values to bytes: at once, or in pieces with bounded work for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.store.json_type import Json

_to_json: Final = msgspec.json.Encoder().encode
# U+0085, U+2028 and U+2029 in UTF-8, and as JSON escapes.
_LINE_ENDS: Final = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def encode(value: Json) -> bytes:
    """Compact JSON in UTF-8, always one line. Non-ASCII is not escaped, but for what ends a line
    in Unicode: many readers of lines (Python's `str.splitlines`, the line iterators of httpx and
    requests) would cut an SSE event or a line of NDJSON there.
    """
    data = _to_json(value)
    if not data.isascii():
        for raw, escaped in _LINE_ENDS:
            data = data.replace(raw, escaped)
    return data


def encode_steps(value: Json, *, slice_bytes: int = 65536) -> Iterator[bytes]:
    """The bytes of `encode(value)` in pieces of roughly `slice_bytes`, with work in proportion for
    each.

    The value must not change meanwhile: hold a pin. Pieces can be several times larger where the
    estimate is wrong (escapes, non-ASCII), never where it matters for the work.
    """
    out: list[bytes] = []
    size = 0
    for piece in _pieces(value, slice_bytes):
        out.append(piece)
        size += len(piece)
        if size >= slice_bytes:
            yield b"".join(out)
            out, size = [], 0
    if out:
        yield b"".join(out)


def _pieces(root: Json, slice_bytes: int) -> Iterator[bytes]:
    """Walk the big containers with a stack of our own; hand runs of small members to msgspec."""
    open_: list[Iterator[bytes | _Big]] = [_one(root, slice_bytes)]
    while open_:
        for piece in open_[-1]:
            if type(piece) is bytes:
                yield piece
            else:
                open_.append(_inside(piece, slice_bytes))
                break
        else:
            open_.pop()


class _Big:
    """A value too big for one piece: to be written before its parent goes on."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _one(value: Json, slice_bytes: int) -> Iterator[bytes | _Big]:
    if _small(value, slice_bytes) is None:
        yield _Big(value)
    else:
        yield encode(value)


def _inside(big: bytes | _Big, slice_bytes: int) -> Iterator[bytes | _Big]:
    assert type(big) is _Big
    if type(big.value) is dict:
        return _members(big.value, slice_bytes)
    if type(big.value) is list:
        return _elements(big.value, slice_bytes)
    return _text(big.value, slice_bytes)


def _elements(array: list[Any], slice_bytes: int) -> Iterator[bytes | _Big]:
    comma = b"["
    run: list[Any] = []
    room = slice_bytes
    for element in array:
        size = _small(element, slice_bytes)
        if size is not None:
            run.append(element)
            room -= size
            if room > 0:
                continue
        if run:
            yield comma + encode(run)[1:-1]
            comma, run, room = b",", [], slice_bytes
        if size is None:
            yield comma
            yield _Big(element)
            comma = b","
    if run:
        yield comma + encode(run)[1:-1]
        comma = b","
    yield b"]" if comma == b"," else b"[]"


def _members(object_: dict[str, Any], slice_bytes: int) -> Iterator[bytes | _Big]:
    comma = b"{"
    run: dict[str, Any] = {}
    room = slice_bytes
    for key, value in object_.items():
        size = _small(value, slice_bytes)
        if len(key) > slice_bytes:
            size = None
        if size is not None:
            run[key] = value
            room -= size + len(key)
            if room > 0:
                continue
        if run:
            yield comma + encode(run)[1:-1]
            comma, run, room = b",", {}, slice_bytes
        if size is None:
            yield comma
            yield _Big(key)
            yield b":"
            yield _Big(value)
            comma = b","
    if run:
        yield comma + encode(run)[1:-1]
        comma = b","
    yield b"}" if comma == b"," else b"{}"


def _text(scalar: Json, slice_bytes: int) -> Iterator[bytes | _Big]:
    if type(scalar) is not str:
        yield encode(scalar)
        return
    yield b'"'
    for at in range(0, len(scalar), slice_bytes):
        yield encode(scalar[at : at + slice_bytes])[1:-1]
    yield b'"'


def _small(value: Any, limit: int) -> int | None:
    """A rough encoded size, or None when it is above `limit`; looks at no more values than that."""
    if type(value) is str:
        return len(value) + 3 if len(value) <= limit else None
    if type(value) is not dict and type(value) is not list:
        return 20  # an integer of thousands of digits is still little work
    size = 0
    todo: list[Any] = [value]
    while todo:
        node = todo.pop()
        # Each value counts something, so a container wider than the limit is never spread out.
        size += 2 + 8 * len(node)
        if size > limit:
            return None
        if type(node) is dict:
            size += sum(map(len, node))
            node = node.values()
        for child in node:
            if type(child) is dict or type(child) is list:
                todo.append(child)
            elif type(child) is str:
                size += len(child)
            else:
                size += 4
    return size if size <= limit else None
