"""What stands in the log beside the document and is the server's: by name, such as `token/ID`.

Records are not seen by clients, and have no say in what becomes of a write. They are state like the
document, changed by entries alone: so they are there after a restart, and every process that
applies the log has the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# CPython, 64 bit: a name and a text of bytes, and their place in the dict.
_RECORD_BYTES: Final = 180


class Record(Struct, frozen=True, tag_field="op", tag="record", omit_defaults=True):
    """From here on this is what is kept under a name; None is nothing."""

    name: str
    value: dict[str, Any] | None = None


class Records:
    """All that is kept, encoded."""

    __slots__ = ("_rows", "bytes")

    def __init__(self, kept: Iterable[tuple[str, dict[str, Any]]] = ()) -> None:
        """`kept` as `rows` gave it."""
        self._rows: dict[str, bytes] = {}
        # About the memory that it takes.
        self.bytes = 0
        for name, value in kept:
            self.put(Record(name, value))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def put(self, record: Record) -> None:
        """Keep it, or nothing, under its name."""
        old = self._rows.pop(record.name, None)
        if old is not None:
            self.bytes -= _weight(record.name, old)
        if record.value is not None:
            text = self._rows[record.name] = msgspec.json.encode(record.value)
            self.bytes += _weight(record.name, text)

    def rows(self) -> Mapping[str, bytes]:
        """All names, and what is kept under them as JSON; it stays as it is now."""
        return self._rows.copy()


def _weight(name: str, text: bytes) -> int:
    return _RECORD_BYTES + len(name) + len(text)
