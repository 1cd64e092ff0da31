"""The SQLite file of a log, with what is in `tables`. All of it waits for the disk: it runs in a
thread, see `sqlite`.

One connection, exclusive. SQLite before 3.51.3 may damage a WAL file that two connections write or
checkpoint at once; nobody else can have this one open. So backups go through us, too.

Why not a file of our own: at the batches that matter it is no faster (docs/design.md), and torn
pages, checksums and the order of syncs are done and tested in SQLite like nowhere else.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import msgspec

from triode.app.log import tables
from triode.app.log.backup import copy
from triode.app.log.folder import Folder, Place
from triode.app.log.log import LogBroken, LogFull, LogRefused
from triode.store.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from triode.app.log.log import Batch, Opened

# What one transaction deletes: a commit of somebody may wait for it.
TRIM_BYTES: Final = 1024 * 1024
TRIM_PIECES: Final = 16
TRIM_BATCHES: Final = 1000
# The WAL is written back when nobody waits and it is as long as this, or in any case when it is as
# long as that.
CHECKPOINT_IDLE_BYTES: Final = 1024 * 1024
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
# The same while a snapshot is made, which fills it: a write waits for as long as this takes.
CHECKPOINT_PIECES_BYTES: Final = 512 * 1024
# Below this much room nothing is written any more, until there is more again.
ROOM_BYTES: Final = 32 * 1024 * 1024
# Before it, two connections at once can damage the WAL ("WAL-reset bug").
SOUND: Final = (3, 51, 3)


def connection(path: Path) -> sqlite3.Connection:
    """An open file."""
    # Any thread may use it: the limiter of `sqlite` lets in one at a time.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)


class Database:
    """The file, open. Not to be used by two threads at once."""

    def __init__(
        self,
        path: Path,
        *,
        is_synced: bool,
        new_epoch: Callable[[], str],
        connect: Callable[[Path], sqlite3.Connection] = connection,
    ) -> None:
        """Take the folder and open the file, or make both. With `is_synced` a commit is on the
        disk; without, a power failure may take the last ones. `connect` is for tests, whose disk
        fails. Raises `LogRefused` and `LogBroken`.
        """
        self._new_epoch = new_epoch
        self._synchronous = "FULL" if is_synced else "NORMAL"
        self._broken = False
        self._full = False
        self._wal_bytes = 0
        self.log_bytes = 0
        # So many entries had been committed, and are not there.
        self.missing = 0
        self.folder = Folder(path)
        with ExitStack() as undo:
            undo.callback(self.folder.close)
            try:
                self._db = connect(self.folder.database)
                undo.callback(self._let_go)
                self._prepare(is_synced)
                self.opened = self._begin()
            except sqlite3.Error as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR:
                    self._broken = True
                    raise LogBroken(f"{self.folder.database}: {error}") from error
                if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                    raise LogRefused(tables.not_a_log(self.folder.database)) from error
                raise LogRefused(f"{self.folder.database} cannot be used: {error}") from error
            undo.pop_all()
        self.folder.keep_reserve()

    def _prepare(self, is_synced: bool) -> None:
        db = self._db
        # First: so it holds its lock for good, and needs no shared memory beside the WAL.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={self._synchronous}")
        db.execute("PRAGMA wal_autocheckpoint=0")
        # Some builds (Debian's) write zeros over all that is deleted: a document of 192 MB that was
        # loaded, and goes from the log with the second snapshot, kept all writes for 2.6 s.
        db.execute("PRAGMA secure_delete=FAST")

    def _begin(self) -> Opened:
        db, folder = self._db, self.folder
        db.execute("BEGIN EXCLUSIVE")
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in tables.SCHEMA.split(";"):
                db.execute(statement)
            self._set("format", str(tables.FORMAT))
        tables.require_format(db, folder.database)
        lineage = self._go_on(tables.last(db))
        opened = tables.contents(db, lineage)
        newest = opened.snapshots[0].seq if opened.snapshots else 0
        self.log_bytes = tables.log_bytes(db, newest)
        db.execute("COMMIT")
        return opened

    def _go_on(self, last: int) -> Lineage:
        """The lineage: the same epoch, if nothing can be missing."""
        place, noted = self.folder.place(), self.folder.noted()
        self.missing = max(0, (noted or 0) - last)
        before, lineage = tables.meta(self._db, "place"), tables.lineage(self._db)
        if before is None or lineage is None:
            lineage = Lineage(self._new_epoch())
        else:
            was = msgspec.json.decode(before, type=Place)
            is_whole = noted is not None and noted <= last
            if not (is_whole and place.follows(was, closed=tables.meta(self._db, "closed") == "1")):
                lineage = lineage.begin(self._new_epoch(), last)
        self.folder.note(last)
        self._set("lineage", msgspec.json.encode(lineage).decode())
        self._set("place", msgspec.json.encode(self.folder.renew(place)).decode())
        self._set("closed", "0")
        return lineage

    def _one(self, query: str, *values: Any) -> int:
        found: int | None = self._rows(query, *values)[0][0]
        return 0 if found is None else found

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All that a query finds: one that stays open would forbid every checkpoint. Raises
        `LogFull` and `LogBroken`.
        """
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _set(self, name: str, value: str) -> None:
        self._db.execute(*tables.set_meta(name, value))

    # ── what is written ─────────────────────────────────────────────────────────────────────────

    def append(self, batch: Batch) -> None:
        """One commit. Raises `LogFull` and `LogBroken`."""
        if not self.has_room():
            raise LogFull("the disk is full")
        row = tables.summed(batch.last, batch.first, batch.data)
        self._commit(("INSERT INTO batch VALUES(?, ?, ?, ?)", row), size=len(batch.data))
        self.folder.note(batch.last)
        self.log_bytes += len(batch.data)
        if self._wal_bytes >= CHECKPOINT_BYTES:
            self.checkpoint()

    def has_room(self) -> bool:
        """Once it was full, writing begins again only when there is much room: what is given up
        for it then must not be eaten up by the next writes.
        """
        if not self._full:
            return True
        free = self._one("PRAGMA freelist_count") * self._one("PRAGMA page_size")
        if free + self.folder.free_bytes() < ROOM_BYTES:
            return False
        self._full = not self.folder.keep_reserve()
        return True

    def _commit(self, *statements: tuple[str, tuple[Any, ...]], size: int) -> None:
        if self._broken:
            raise LogBroken("an earlier commit failed")
        try:
            # Each call gives the interpreter's lock away, and waits for it behind the loop. Alone,
            # a statement is a transaction of its own.
            if len(statements) > 1:
                self._db.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._db.execute(statement, values)
            if len(statements) > 1:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._wal_bytes += size + 4096

    def _failed(self, error: sqlite3.Error) -> LogFull | LogBroken:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            try:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            except sqlite3.Error as second:
                error = second
            else:
                self._full = True
                self.folder.give_reserve()
                return LogFull("the disk is full")
        # After a failed sync the system may have dropped what was to be written, and say nothing
        # of it the next time: there is no second try.
        self._broken = True
        return LogBroken(f"{self.folder.database}: {error}")

    def checkpoint(self) -> None:
        """Write the WAL back into the file."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            failed = self._failed(error)
            if isinstance(failed, LogBroken):
                raise failed from error
            return  # the WAL goes on growing, if it can
        self._wal_bytes = 0

    def tidy(self) -> None:
        """When nobody waits."""
        if self._wal_bytes >= CHECKPOINT_IDLE_BYTES:
            self.checkpoint()
        if self._full:
            self._full = not self.folder.keep_reserve()

    # ── snapshots ───────────────────────────────────────────────────────────────────────────────

    def begin_snapshot(self, seq: int) -> int:
        """A new one; its id."""
        self._commit(("DELETE FROM snapshot WHERE NOT pieces", ()), size=0)
        # Pieces of one that is gone may still be there.
        last = self._one("SELECT max(snapshot) FROM piece")
        number = max(self._one("SELECT max(id) FROM snapshot"), last) + 1
        row = tables.summed(number, seq, 0)
        self._commit(("INSERT INTO snapshot VALUES(?, ?, ?, ?)", row), size=0)
        return number

    def add_piece(self, snapshot: int, data: bytes) -> None:
        """The next piece. It need not be on the disk before the snapshot is whole, which syncs all
        that is in the WAL before it: so nobody's write waits for a sync of ours.
        """
        number = self._pieces(snapshot)
        row = tables.summed(snapshot, number, data)
        self._commit_unsynced(("INSERT INTO piece VALUES(?, ?, ?, ?)", row), size=len(data))

    def _pieces(self, snapshot: int) -> int:
        # Not counted: that takes longer with each piece.
        return self._one("SELECT max(number) + 1 FROM piece WHERE snapshot=?", snapshot)

    def tidy_pieces(self) -> None:
        """After a piece: the WAL is written back in small parts."""
        if self._wal_bytes >= CHECKPOINT_PIECES_BYTES:
            self.checkpoint()

    def finish_snapshot(self, snapshot: int) -> None:
        """It is whole; the older ones but one go. The log before that one goes by `trim`."""
        newest = self._one("SELECT seq FROM snapshot WHERE id=?", snapshot)
        row = tables.summed(snapshot, newest, self._pieces(snapshot))
        self._commit(
            ("REPLACE INTO snapshot VALUES(?, ?, ?, ?)", row),
            ("DELETE FROM snapshot WHERE id IN (SELECT id FROM snapshot WHERE pieces "
             "ORDER BY seq DESC, id DESC LIMIT -1 OFFSET 2)", ()),
            size=0,
        )  # fmt: skip
        self.log_bytes = self._one(tables.LOG_BYTES, newest)

    def trim(self) -> bool:
        """Delete some of what no snapshot needs: pieces of older ones, then log. False: nothing is
        left to delete.
        """
        return self._trim_pieces() or self._trim_log()

    def _trim_pieces(self) -> bool:
        found = self._rows(
            "SELECT snapshot, number FROM piece WHERE snapshot NOT IN (SELECT id FROM snapshot) "
            "ORDER BY snapshot, number LIMIT ?",
            TRIM_PIECES,
        )
        if found:
            delete = "DELETE FROM piece WHERE snapshot=? AND number=?"
            self._commit_unsynced(*((delete, row) for row in found), size=0)
        return bool(found)

    def _trim_log(self) -> bool:
        floor = self._one("SELECT min(seq) FROM snapshot WHERE pieces")
        size, upto = 0, 0
        for last, length in self._rows(
            "SELECT last, length(data) FROM batch WHERE last <= ? ORDER BY last LIMIT ?",
            floor,
            TRIM_BATCHES,
        ):
            upto, size = last, size + length
            if size >= TRIM_BYTES:
                break
        if not upto:
            return False
        self._commit_unsynced(("DELETE FROM batch WHERE last <= ?", (upto,)), size=0)
        return True

    def _commit_unsynced(self, *statements: tuple[str, tuple[Any, ...]], size: int) -> None:
        """What may be undone by a crash: it is on the disk with the next commit."""
        self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            self._commit(*statements, size=size)
        finally:
            if not self._broken:
                self._db.execute(f"PRAGMA synchronous={self._synchronous}")

    # ── what is read ────────────────────────────────────────────────────────────────────────────

    def read(self, since: int) -> list[Batch]:
        """The next batches. Raises `LogRefused`."""
        return tables.batches(self._db, since)

    def read_piece(self, snapshot: int, number: int) -> bytes:
        """One piece. Raises `LogRefused`."""
        return tables.piece(self._db, snapshot, number)

    def floor(self) -> int:
        """The entries after this one can be read. Raises `LogFull` and `LogBroken`."""
        try:
            return tables.floor(self._db)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def backup(self, told: Callable[[int, int], None]) -> int:
        """A copy of all of it, as `backup.copy` makes it: a descriptor of a file without a name.
        Raises as that does.
        """
        pages = self._one("PRAGMA page_count") * self._one("PRAGMA page_size")
        if pages + ROOM_BYTES > self.folder.free_bytes():
            raise LogFull(f"there is no room for a copy of {pages >> 20} MiB beside the log")
        target = self.folder.path / "triode.copy"
        target.unlink(missing_ok=True)  # of a process that was killed meanwhile
        copy(self._db, target, told)
        try:
            return os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            target.unlink()

    def close(self) -> None:
        """All that was written is in the file afterwards, and it says so."""
        try:
            if not self._broken:
                self._commit(tables.set_meta("closed", "1"), size=0)
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (LogFull, LogBroken, sqlite3.Error):
            pass  # the next one finds all in the WAL
        finally:
            self._let_go()
            self.folder.close()

    def _let_go(self) -> None:
        """Close the connection; not after a failed sync. SQLite would write the WAL back then, from
        pages that the system may have dropped, and delete it. So it is left for the next process,
        which reads what is on the disk.
        """
        if self._broken:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))  # never freed: that closes it
        else:
            self._db.close()
