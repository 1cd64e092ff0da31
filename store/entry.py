"""What a log holds: the writes, as bytes that a later process reads back.

A batch is what was committed at once: a line with the version, then a line of JSON for each entry.

    1
    {"time_ms":1767225600000,"op":{"op":"set","path":["a"],"value":1}}
    {"time_ms":1767225600000,"op":{"op":"increment","path":["n"]},"by":"shop","grant":{…}}
    {"time_ms":1767225600000,"op":{"op":"append",…},"key":{"name":"…","asked":"…"}}

An entry says what was *asked for*, not what became of it: that is decided when it is applied, in
the order of the log, and comes out alike each time. So all that the decision depends on stands in
the log: what the writer may do, and the bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from triode.store.json_type import JsonError
from triode.store.operation import Expire, Operation, Touch, has_ttl
from triode.store.outcomes import Key
from triode.store.records import Record
from triode.store.said import Say

if TYPE_CHECKING:
    from collections.abc import Iterable

# Newer programs read what older ones wrote; an older one refuses what it does not know.
VERSION: Final = 2
# Of batches without a time to live: programs of before there was one read them.
PLAIN: Final = 1


class Bounds(Struct, frozen=True, tag_field="op", tag="bounds", omit_defaults=True):
    """What a write may take from here on. A setting of the server, but it decides what is refused:
    so it changes only by an entry.

    `max_bytes` and `max_footprint`: of the document as JSON and in memory; None is no bound.
    `max_work`: steps of one write. `max_deadlines`: places with a time to live.
    """

    max_bytes: int | None = None
    max_work: int = 1 << 62
    max_footprint: int | None = None
    max_deadlines: int | None = None


# What stands in a log and is no write: rights and conditions have no say in it.
Beside: TypeAlias = Bounds | Record | Say


class Entry(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One write, new bounds, a record of the server's, or a message. `by` names the writer; `grant`
    is what he may do, None everything. `key` is his own for this write, if he may send it again.
    """

    time_ms: int
    op: Operation | Beside
    by: str = ""
    grant: dict[str, Any] | None = None
    key: Key | None = None


class EntryError(ValueError):
    """These bytes are no batch, or one of a version that is not known here."""


_to_json: Final = msgspec.json.Encoder().encode
_of_json: Final = msgspec.json.Decoder(Entry).decode
_HEAD: Final = b"%d" % VERSION
_PLAIN_HEAD: Final = b"%d" % PLAIN


def encode_entry(entry: Entry) -> bytes:
    """One line, without its end. Raises `JsonError` for a value that is not JSON."""
    try:
        return _to_json(entry)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise JsonError(f"it cannot be written down as JSON: {error}") from error


def needs_newer(op: Operation | Beside) -> bool:
    """Whether a program that knows no time to live would decide it otherwise."""
    return not isinstance(op, Beside) and (isinstance(op, Touch | Expire) or has_ttl(op))


def encode_batch(lines: Iterable[bytes], *, is_plain: bool = True) -> bytes:
    """The entries of one commit; `is_plain` unless one of them `needs_newer`."""
    return b"\n".join((_PLAIN_HEAD if is_plain else _HEAD, *lines))


def batch_lines(data: bytes) -> list[bytes]:
    """The entries of one commit, as they were written. Raises `EntryError`."""
    head, _, body = data.partition(b"\n")
    if head not in (_PLAIN_HEAD, _HEAD):
        raise EntryError(
            f"a batch of version {head[:20].decode('ascii', 'replace')!r}; this Triode reads "
            f"versions up to {VERSION}: use a newer one"
        )
    return body.split(b"\n")


def decode_batch(data: bytes) -> list[Entry]:
    """The entries of one commit. Raises `EntryError`."""
    return [decode_entry(line) for line in batch_lines(data)]


def decode_entry(line: bytes) -> Entry:
    """One of them. Raises `EntryError`."""
    try:
        return _of_json(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EntryError(f"a damaged batch: {error}") from error
