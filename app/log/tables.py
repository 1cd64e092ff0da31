"""What stands in the SQLite file of a log, and how it is read.

meta(name, value, sum)              format, lineage, place, whether it was closed
batch(last, first, data, sum)       one row for each commit
snapshot(id, seq, pieces, sum)      how many pieces it has; 0: it is not finished
piece(snapshot, number, data, sum)

SQLite has a checksum for what is in its WAL, and none for its file. So each row has one here: what
a bad disk or a stray write has changed is refused, not believed.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import msgspec

from triode.app.log.log import Batch, LogRefused, Opened, Snapshot, require_joined
from triode.store.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT: Final = 2
READ_BYTES: Final = 1024 * 1024

SCHEMA: Final = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE batch(last INTEGER PRIMARY KEY, first INTEGER NOT NULL, data BLOB NOT NULL,
                   sum INTEGER NOT NULL);
CREATE TABLE snapshot(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, pieces INTEGER NOT NULL,
                      sum INTEGER NOT NULL);
CREATE TABLE piece(snapshot INTEGER, number INTEGER, data BLOB NOT NULL, sum INTEGER NOT NULL,
                   PRIMARY KEY(snapshot, number));
"""

# Of the batches after an entry.
LOG_BYTES: Final = "SELECT sum(length(data)) FROM batch WHERE last > ?"


def summed(*row: Any) -> tuple[Any, ...]:
    """A row with its checksum."""
    return (*row, _sum(row))


def _sum(row: Sequence[Any]) -> int:
    found = 0
    for value in row:
        found = crc32(value if isinstance(value, bytes) else b"%r" % (value,), found)
    return found


def checked(row: Sequence[Any], what: str) -> tuple[Any, ...]:
    """A row without its checksum. Raises `LogRefused` unless it fits."""
    *values, found = row
    if found != _sum(values):
        raise LogRefused(f"{what} is damaged: its checksum does not fit")
    return tuple(values)


def number(db: sqlite3.Connection, query: str, *values: Any) -> int:
    """What a query finds; 0 when it finds nothing."""
    found: int | None = db.execute(query, values).fetchone()[0]
    return 0 if found is None else found


def meta(db: sqlite3.Connection, name: str) -> str | None:
    """A value of `meta`. Raises `LogRefused`."""
    row = db.execute("SELECT name, value, sum FROM meta WHERE name=?", (name,)).fetchone()
    if row is None:
        return None
    value: str = checked(row, f"the {name}")[1]
    return value


def lineage(db: sqlite3.Connection) -> Lineage | None:
    """The lineage; None in a new log. Raises `LogRefused`."""
    known = meta(db, "lineage")
    return None if known is None else msgspec.json.decode(known, type=Lineage)


def set_meta(name: str, value: str) -> tuple[str, tuple[Any, ...]]:
    """The statement that sets a value of `meta`."""
    return "INSERT OR REPLACE INTO meta VALUES(?, ?, ?)", summed(name, value)


def require_format(db: sqlite3.Connection, path: Path) -> None:
    """Raises `LogRefused` unless it is of the format that is known here."""
    if not number(db, "SELECT count(*) FROM sqlite_master WHERE name='meta'"):
        raise LogRefused(f"{path} is a database of another program, not a log of Triode")
    row = db.execute("SELECT value FROM meta WHERE name='format'").fetchone()
    if row != (str(FORMAT),):
        found = None if row is None else row[0]
        raise LogRefused(
            f"{path} is of format {found}; this Triode knows {FORMAT}: use a newer one, or another "
            "folder"
        )


def not_a_log(path: Path) -> str:
    """Why a file that SQLite does not know cannot be used."""
    return (
        f"{path} is not a log of Triode: it is no SQLite database, or its first page is damaged. "
        "Name the folder of a server, or a file that `triode backup` made"
    )


def snapshots(db: sqlite3.Connection) -> list[Snapshot]:
    """Those that are whole, the newest first. Raises `LogRefused`."""
    rows = db.execute(
        "SELECT id, seq, pieces, sum FROM snapshot WHERE pieces ORDER BY seq DESC, id DESC"
    )
    return [Snapshot(*checked(row, f"snapshot {row[0]}")) for row in rows]


def last(db: sqlite3.Connection) -> int:
    """The number of the newest entry."""
    return max(
        number(db, "SELECT max(last) FROM batch"),
        number(db, "SELECT max(seq) FROM snapshot WHERE pieces"),
    )


def floor(db: sqlite3.Connection) -> int:
    """The entries after this one are there."""
    first = number(db, "SELECT min(first) FROM batch")
    return first - 1 if first else last(db)


def contents(db: sqlite3.Connection, lineage: Lineage) -> Opened:
    """All but the data."""
    return Opened(lineage, floor(db), last(db), snapshots(db))


def log_bytes(db: sqlite3.Connection, since: int) -> int:
    """Of the batches after the entry `since`."""
    return number(db, LOG_BYTES, since)


def batches(db: sqlite3.Connection, since: int) -> list[Batch]:
    """The next batches with entries after `since`, some at a time. Raises `LogRefused`."""
    found: list[Batch] = []
    size = 0
    try:
        rows = db.execute(
            "SELECT last, first, data, sum FROM batch WHERE last > ? ORDER BY last", (since,)
        )
        for row in rows:
            last, first, data = checked(row, f"batch {row[0]}")
            found.append(Batch(first, last, data))
            size += len(found[-1].data)
            if size > READ_BYTES:
                break
    except sqlite3.Error as error:
        raise LogRefused(f"the entries after {since} cannot be read: {error}") from error
    require_joined(since, found)
    return found


def piece(db: sqlite3.Connection, snapshot: int, number: int) -> bytes:
    """One piece of a snapshot. Raises `LogRefused`."""
    try:
        row = db.execute(
            "SELECT snapshot, number, data, sum FROM piece WHERE snapshot=? AND number=?",
            (snapshot, number),
        ).fetchone()
    except sqlite3.Error as error:
        raise LogRefused(f"snapshot {snapshot} cannot be read: {error}") from error
    if row is None:
        raise LogRefused(f"piece {number} of snapshot {snapshot} is missing")
    data: bytes = checked(row, f"piece {number} of snapshot {snapshot}")[2]
    return data
