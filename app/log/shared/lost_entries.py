"""What a log has lost, in words for the server's own log: what was done where, and by whom. Never
what was written: that is for those who may read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from triode.store.entry import EntryError, batch_lines
from triode.store.path import format_path

if TYPE_CHECKING:
    from triode.app.log.shared.recent import LogEntry

_SHOWN: Final = 5
_CHARS: Final = 200


class _Op(msgspec.Struct):
    op: str
    path: tuple[str | int, ...] = ()


class _Line(msgspec.Struct):
    op: _Op
    by: str = ""


_decode: Final = msgspec.json.Decoder(_Line).decode


def in_words(entry: LogEntry) -> str:
    """`3 operations: set .a by ann, append .log by shop, …`."""
    try:
        lines = [_decode(line) for line in batch_lines(entry.body)[:_SHOWN]]
    except (EntryError, msgspec.DecodeError):
        return f"{entry.ops} operations, which cannot be read"
    named = [
        f"{line.op.op} {format_path(line.op.path)} by {line.by or 'the server'}"[:_CHARS]
        for line in lines
    ]
    more = ["…"] if entry.ops > _SHOWN else []
    return f"{entry.ops} operations: {', '.join(named + more)}"
