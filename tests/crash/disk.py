"""A disk that forgets: SQLite's files in memory, behind a VFS of `apsw`.

What a file holds is what its program sees; what was synced is on the disk for sure. At a *cut* of
the power, of all that was written since the last sync a part is on the disk, and a part is not:
in sectors, in any order, and a sector that was being written may hold anything.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from typing import Any

import apsw

SECTOR = 512
NAME = "forgetful"


class Image:
    """One file: as it is seen, as it was synced, and what was done in between."""

    def __init__(self, data: bytes = b"") -> None:
        self.seen = bytearray(data)
        self.synced = bytes(data)
        # (offset, bytes) written, or (length, None): cut to this length.
        self.pending: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, data: bytes) -> None:
        grow = offset + len(data) - len(self.seen)
        self.seen += bytes(max(0, grow))
        self.seen[offset : offset + len(data)] = data
        self.pending.append((offset, bytes(data)))

    def truncate(self, length: int) -> None:
        del self.seen[length:]
        self.pending.append((length, None))

    def sync(self) -> None:
        self.synced = bytes(self.seen)
        self.pending.clear()

    def after_cut(self, rng: random.Random) -> Image:
        """What is there when the power is back."""
        left = bytearray(self.synced)
        parts = list(sectors(self.pending))
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        kept = [part for part in parts if rng.random() < share]
        if rng.random() < 0.5:
            rng.shuffle(kept)
        for offset, data in kept:
            if data is None:
                del left[offset:]
                continue
            if rng.random() < 0.05:
                data = torn(data, rng)
            left += bytes(max(0, offset + len(data) - len(left)))
            left[offset : offset + len(data)] = data
        return Image(bytes(left))


def sectors(pending: list[tuple[int, bytes | None]]) -> Iterator[tuple[int, bytes | None]]:
    """What was written, cut at the sectors' borders."""
    for offset, data in pending:
        if data is None:
            yield offset, None
            continue
        at = 0
        while at < len(data):
            size = SECTOR - (offset + at) % SECTOR
            yield offset + at, data[at : at + size]
            at += size


def torn(data: bytes, rng: random.Random) -> bytes:
    """A sector that was being written: half of it, or anything."""
    half = rng.randrange(len(data))
    rest = len(data) - half
    return data[:half] + (rng.randbytes(rest) if rng.random() < 0.5 else bytes(rest))


class Disk(apsw.VFS):
    """The files of one machine. The power goes after `left` more things have been done to them.

    `lies`: it says that it has synced, and has not.
    """

    def __init__(self, *, lies: bool = False) -> None:
        super().__init__(NAME, "")
        self.files: dict[str, Image] = {}
        self.left = 0
        self.is_off = self.is_over = False
        self.lies = lies
        # What the directory does not say for sure yet: files that are deleted, and new ones.
        self._gone: dict[str, Image] = {}
        self._new: set[str] = set()
        self.syncs = 0

    def start(self, steps: int) -> None:
        """The power is there for so many things that are done."""
        self.left, self.is_off, self.is_over = steps, False, False

    def end(self) -> None:
        """The program ends too: what its closing does reaches nothing."""
        self.is_off = self.is_over = True

    def reaches(self) -> bool:
        """One thing more is to be done; whether it is."""
        if self.is_over:
            return False
        self.left -= 1
        self.is_off = self.left < 0
        if self.is_off:
            raise apsw.IOError("the power is cut")
        return True

    def cut(self, rng: random.Random) -> None:
        """The power goes, and comes back."""
        for name, image in self._gone.items():
            if name not in self.files and rng.random() < 0.5:
                self.files[name] = image
        for name in self._new:
            if rng.random() < 0.5:
                self.files.pop(name, None)
        self.sync_directory()
        self.files = {name: image.after_cut(rng) for name, image in self.files.items()}

    def sync_directory(self) -> None:
        """It says for sure which files there are."""
        self._gone.clear()
        self._new.clear()

    # ── what SQLite calls ───────────────────────────────────────────────────────────────────────

    def excepthook(self, etype: Any, evalue: Any, etraceback: Any) -> bool:
        """What SQLite has no use for: it goes on as if nothing were."""
        return True

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self.files

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if not self.reaches():
            return
        image = self.files.pop(filename, None)
        if image is not None:
            self._gone[filename] = image
        if syncdir:
            self.sync_directory()

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = (name.filename() if isinstance(name, apsw.URIFilename) else name) or ""
        flags[1] = flags[0]
        is_new = path not in self.files
        if is_new:
            self._new.add(path)
        # SQLite syncs the directory with a new journal or WAL, when it syncs that for the first
        # time (`unixSync` in os_unix.c).
        with_directory = is_new and path.endswith(("-wal", "-journal"))
        image = self.files.setdefault(path, Image())
        return OpenFile(self, image, with_directory)  # type: ignore[return-value] # by its methods


class OpenFile:
    """One open file, as SQLite uses it."""

    def __init__(self, disk: Disk, image: Image, with_directory: bool) -> None:
        self._disk = disk
        self._image = image
        self._with_directory = with_directory

    def excepthook(self, etype: Any, evalue: Any, etraceback: Any) -> bool:
        """As that of the disk."""
        return True

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._image.seen[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk.reaches():
            self._image.write(offset, data)

    def xTruncate(self, size: int) -> None:
        if self._disk.reaches():
            self._image.truncate(size)

    def xSync(self, flags: int) -> None:
        if not self._disk.reaches():
            return
        self._disk.syncs += 1
        if self._disk.lies:
            return
        self._image.sync()
        if self._with_directory:
            self._with_directory = False
            self._disk.sync_directory()

    def xFileSize(self) -> int:
        return len(self._image.seen)

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        # As SQLite takes it of every Unix disk: what lies beside what is written stays whole.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:
        pass


class Connection:
    """An `apsw` connection with the face of `sqlite3`, as far as `Database` needs it."""

    def __init__(self, path: str) -> None:
        self._db = apsw.Connection(path, vfs=NAME)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        try:
            return Rows(self._db.execute(statement, values))
        except apsw.Error as error:
            raise as_sqlite3(error) from error

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):
            self._db.close(True)


class Rows:
    """A cursor."""

    def __init__(self, cursor: apsw.Cursor) -> None:
        self._cursor = cursor

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._cursor
        except apsw.Error as error:
            raise as_sqlite3(error) from error

    def fetchone(self) -> Any:
        return next(iter(self), None)

    def fetchall(self) -> list[Any]:
        return list(self)

    def close(self) -> None:
        self._cursor.close()


def as_sqlite3(error: apsw.Error) -> sqlite3.Error:
    """The same error, as `sqlite3` raises it."""
    known = sqlite3.OperationalError(str(error))
    known.sqlite_errorcode = getattr(error, "extendedresult", 1)
    return known
