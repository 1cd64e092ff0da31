"""What stands in the SQLite file of a log, and how it is read.

meta(name, value)              format, lineage, place, whether it was closed
batch(last, first, data)       one row for each commit
snapshot(id, seq, whole)       and piece(snapshot, number, data)
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from triode.app.log.log import Batch, LogRefused, Opened, Snapshot, require_joined

if TYPE_CHECKING:
    from pathlib import Path

    from triode.store.lineage import Lineage

FORMAT: Final = 1
READ_BYTES: Final = 1024 * 1024

SCHEMA: Final = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batch(last INTEGER PRIMARY KEY, first INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE snapshot(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, whole INTEGER NOT NULL);
CREATE TABLE piece(snapshot INTEGER, number INTEGER, data BLOB NOT NULL,
                   PRIMARY KEY(snapshot, number));
"""


def number(db: sqlite3.Connection, query: str, *values: Any) -> int:
    """What a query finds; 0 when it finds nothing."""
    found: int | None = db.execute(query, values).fetchone()[0]
    return 0 if found is None else found


def meta(db: sqlite3.Connection, name: str) -> str | None:
    """A value of `meta`."""
    row = db.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
    return None if row is None else row[0]


def require_format(db: sqlite3.Connection, path: Path) -> None:
    """Raises `LogRefused` unless it is of the format that is known here."""
    found = meta(db, "format")
    if found != str(FORMAT):
        raise LogRefused(
            f"{path} is of format {found}; this Triode knows {FORMAT}: use a newer one, or another "
            "folder"
        )


def snapshots(db: sqlite3.Connection) -> list[Snapshot]:
    """Those that are whole, the newest first."""
    rows = db.execute(
        "SELECT id, seq, (SELECT count(*) FROM piece WHERE snapshot=id) FROM snapshot "
        "WHERE whole ORDER BY seq DESC, id DESC"
    )
    return [Snapshot(*row) for row in rows]


def last(db: sqlite3.Connection) -> int:
    """The number of the newest entry."""
    return max(
        number(db, "SELECT max(last) FROM batch"),
        number(db, "SELECT max(seq) FROM snapshot WHERE whole"),
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
    return number(db, "SELECT sum(length(data)) FROM batch WHERE last > ?", since)


def batches(db: sqlite3.Connection, since: int) -> list[Batch]:
    """The next batches with entries after `since`, some at a time. Raises `LogRefused`."""
    found: list[Batch] = []
    size = 0
    try:
        rows = db.execute(
            "SELECT first, last, data FROM batch WHERE last > ? ORDER BY last", (since,)
        )
        for row in rows:
            found.append(Batch(*row))
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
            "SELECT data FROM piece WHERE snapshot=? AND number=?", (snapshot, number)
        ).fetchone()
    except sqlite3.Error as error:
        raise LogRefused(f"snapshot {snapshot} cannot be read: {error}") from error
    if row is None:
        raise LogRefused(f"piece {number} of snapshot {snapshot} is missing")
    data: bytes = row[0]
    return data
