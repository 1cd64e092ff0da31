"""A log to be looked at: the folder of a Triode that does not run, or a backup. Nothing in it is
changed.

A server's own folder cannot be read beside it: SQLite before 3.51.3 may damage a file that two
have open (`database`). Ask the server, or look at a backup.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from triode.app.log import tables
from triode.app.log.backup import copy
from triode.app.log.log import LogInUse, LogRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.log.log import Batch, Opened

FAULTS_NAMED = 10


class Reader:
    """A context manager. While it is open no server can take the folder."""

    def __init__(self, path: Path) -> None:
        """`path` is a folder, or a file that a backup was written to. Raises `LogRefused`."""
        self.path = path
        self.file = path / "triode.db" if path.is_dir() else path
        with ExitStack() as undo:
            if path.is_dir():
                undo.callback(os.close, _hold(path))
            if not self.file.exists():
                raise LogRefused(f"{path} holds no log")
            try:
                self._db = sqlite3.connect(
                    f"{self.file.absolute().as_uri()}?mode=ro",
                    uri=True,
                    isolation_level=None,
                    check_same_thread=False,
                )
                undo.callback(self._close)
                self.opened = self._look()
            except sqlite3.Error as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                    raise LogRefused(tables.not_a_log(self.file)) from error
                raise LogRefused(f"{self.file} cannot be read: {error}") from error
            self._undo = undo.pop_all()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._undo.close()

    def _look(self) -> Opened:
        if tables.number(self._db, "SELECT count(*) FROM sqlite_master") == 0:
            raise LogRefused(f"{self.path} holds no log")
        tables.require_format(self._db, self.file)
        lineage = tables.lineage(self._db)
        if lineage is None:
            raise LogRefused(f"{self.file} is damaged: it has no epoch")
        return tables.contents(self._db, lineage)

    def _close(self) -> None:
        self._db.close()
        # SQLite needs them to read, and nobody after us does; but for a WAL of those before us.
        wal, shared = (self.file.with_name(self.file.name + end) for end in ("-wal", "-shm"))
        with contextlib.suppress(OSError):
            shared.unlink(missing_ok=True)
            if not wal.stat().st_size:
                wal.unlink()

    @property
    def log_bytes(self) -> int:
        """Of the entries after the newest snapshot."""
        newest = self.opened.snapshots[0].seq if self.opened.snapshots else 0
        return tables.log_bytes(self._db, newest)

    async def read(self, since: int) -> list[Batch]:
        """As `log.Log`'s."""
        await trio.lowlevel.checkpoint()
        return tables.batches(self._db, since)

    async def read_piece(self, snapshot: int, number: int) -> bytes:
        """As `log.Log`'s."""
        await trio.lowlevel.checkpoint()
        return tables.piece(self._db, snapshot, number)

    def faults(self) -> list[str]:
        """What SQLite finds wrong with its file; it reads all of it."""
        try:
            rows = self._db.execute(f"PRAGMA integrity_check({FAULTS_NAMED})").fetchall()
        except sqlite3.Error as error:
            return [str(error)]
        return [str(text) for (text,) in rows if text != "ok"]

    def copy(self, target: Path, told: Callable[[int, int], None]) -> None:
        """As `backup.copy`."""
        copy(self._db, target, told)


def _hold(folder: Path) -> int:
    try:
        lock = os.open(folder / "triode.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise LogRefused(f"{folder} holds no log") from None
    except OSError as error:
        raise LogRefused(f"{folder} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise LogRefused(f"{folder} cannot be locked: {error.strerror}") from error
        raise LogInUse(f"{folder} is in use by another Triode") from error
    return lock
