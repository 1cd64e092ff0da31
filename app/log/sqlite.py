"""A log in a SQLite file. One thread at a time works on it, so nobody waits for the disk on the
loop.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from triode.app.log.database import SOUND, Database
from triode.app.log.log import Batch, LogRefused
from triode.app.runtime.epoch import new_epoch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from triode.app.log.log import Opened

T = TypeVar("T")

log = logging.getLogger("triode")

CLOSE_S: Final = 10.0
# Between two parts of a copy: it takes a quarter of the thread's time.
PAUSE_S: Final = 0.001


class SqliteLog:
    """See `log.Log`. With `is_synced` a commit is on the disk when it is answered."""

    def __init__(self, path: Path, *, is_synced: bool = True) -> None:
        self.path = path
        self._is_synced = is_synced
        self._database: Database | None = None
        self._last = 0
        self._new: deque[Batch] = deque()
        self._limiter = trio.CapacityLimiter(1)
        # A copy is made in a thread of its own, a part at a time: who holds this has the file.
        self._alone = threading.Lock()
        self._copying = trio.CapacityLimiter(1)

    async def open(self) -> Opened:
        """Raises `LogRefused`."""
        make = partial(Database, self.path, is_synced=self._is_synced, new_epoch=new_epoch)
        self._database = await self._in_thread(make)
        # Only now is it known that nobody else has the folder.
        if sqlite3.sqlite_version_info < SOUND:
            # Nothing is wrong, and it is said at each start.
            log.info(
                "this machine's SQLite is %s: before 3.51.3, do not open %s with another program "
                "(sqlite3, for example) while this server runs; the file could be damaged",
                sqlite3.sqlite_version,
                self.path / "triode.db",
            )
        if self._database.missing:
            log.warning(
                "the last %d writes are missing in %s: triode.db or triode.db-wal was deleted or "
                "put back from an older copy, or the power failed before they were on the disk. "
                "If you have those files, stop this server first, and put all of them back",
                self._database.missing,
                self.path,
            )
        self._last = self._database.opened.last
        return self._database.opened

    @property
    def is_shared(self) -> bool:
        """It is this process's alone."""
        return False

    async def append(self, data: bytes, count: int) -> None:
        """Raises `LogFull` and `LogBroken`."""
        batch = Batch(self._last + 1, self._last + count, data, is_own=True)
        await self._in_thread(partial(self._db.append, batch))
        self._last = batch.last
        self._new.append(batch)

    def take(self) -> Batch | None:
        """The next batch that was appended."""
        return self._new.popleft() if self._new else None

    async def news(self) -> None:
        """Nobody else writes."""
        await trio.sleep_forever()

    async def read(self, since: int) -> list[Batch]:
        """Raises `LogRefused`."""
        return await self._in_thread(partial(self._db.read, since))

    async def begin_snapshot(self, seq: int) -> int:
        """A new snapshot; its id. Raises as `append` does."""
        made = await self._in_thread(partial(self._db.begin_snapshot, seq))
        await self._trim()
        return made

    async def add_piece(self, snapshot: int, data: bytes) -> None:
        """Raises as `append` does."""
        await self._in_thread(partial(self._db.add_piece, snapshot, data))
        # By itself, so that a commit that waits comes first.
        await self._in_thread(self._db.tidy_pieces)

    async def finish_snapshot(self, snapshot: int) -> None:
        """Older ones go, and the log before them. Raises as `append` does."""
        await self._in_thread(partial(self._db.finish_snapshot, snapshot))
        await self._trim()

    async def _trim(self) -> None:
        while await self._in_thread(self._db.trim):
            pass

    async def read_piece(self, snapshot: int, number: int) -> bytes:
        """Raises `LogRefused`."""
        return await self._in_thread(partial(self._db.read_piece, snapshot, number))

    async def floor(self) -> int:
        """The entries after this one can be read."""
        return await self._in_thread(self._db.floor)

    async def backup(self) -> int:
        """A copy of all of it; see `log.Log`."""
        copy = partial(self._copy, self._db)
        return await trio.to_thread.run_sync(copy, limiter=self._copying)

    def _copy(self, database: Database) -> int:
        with self._alone:
            return database.backup(self._let_others)

    def _let_others(self, _done: int, _total: int) -> None:
        """Called between two parts of a copy: commits come in between."""
        trio.from_thread.check_cancelled()
        if self._database is None:
            raise LogRefused("the server ends")
        self._alone.release()
        # Who waits for a lock does not get it from somebody who takes it again at once.
        time.sleep(PAUSE_S)
        self._alone.acquire()

    async def has_room(self) -> bool:
        """See `Database.has_room`."""
        return await self._in_thread(self._db.has_room)

    async def tidy(self) -> None:
        """Write the WAL back, when it is worth it."""
        await self._in_thread(self._db.tidy)

    @property
    def bytes(self) -> int:
        """Of the batches after the newest snapshot."""
        return self._db.log_bytes

    def disk_bytes(self) -> int:
        """Of SQLite's files."""
        return self._db.folder.database_bytes()

    async def aclose(self) -> None:
        """What is under way is finished first."""
        database, self._database = self._database, None
        if database is not None:
            with trio.move_on_after(CLOSE_S, shield=True):
                await self._in_thread(database.close)
        await trio.lowlevel.checkpoint()

    @property
    def _db(self) -> Database:
        assert self._database is not None, "the log is not open"
        return self._database

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(self._do, work, limiter=self._limiter)

    def _do(self, work: Callable[[], T]) -> T:
        with self._alone:
            return work()
