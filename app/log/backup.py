"""Backups: all of a log in one file, whole by itself, and a folder made of such a file.

A copy is made some pages at a time, so commits come in between; what they change in pages that are
copied already is changed in the copy as well, since they go through the same connection. So it is
the log of the moment at which the copy is done.

A restored log goes on from there in a new epoch: what came after the backup is not in it, and
nobody may take its positions for those.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from triode.app.log import tables
from triode.app.log.folder import Folder, Place
from triode.app.log.log import LogFull, LogRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# About 0.3 ms of copying.
PAGES: Final = 64


def copy(db: sqlite3.Connection, target: Path, told: Callable[[int, int], None]) -> None:
    """Write all into a new file, which is on the disk at the end. Between two parts
    `told(done, total)` is called, in pages; what it raises ends the copy, and removes it. Raises
    `LogFull` and `LogRefused`.
    """
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise LogRefused(f"{target} cannot be written: {error.strerror}") from error
    is_whole = False
    try:
        with closing(sqlite3.connect(target, isolation_level=None, check_same_thread=False)) as out:
            out.execute("PRAGMA synchronous=OFF")
            db.backup(
                out,
                pages=PAGES,
                progress=lambda _status, left, total: told(total - left, total),
            )
            out.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
            _tell_apart(out)
        sync(target)
        is_whole = True
    except sqlite3.Error as error:
        raise _fault(target, error) from error
    finally:
        if not is_whole:
            target.unlink(missing_ok=True)


def _fault(target: Path, error: sqlite3.Error) -> LogFull | LogRefused:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return LogFull(f"there is no room for {target}")
    return LogRefused(f"the log cannot be copied: {error}")


def _tell_apart(db: sqlite3.Connection) -> None:
    """It is at no place where a log went on, so whatever opens it begins a new epoch."""
    place = tables.meta(db, "place")
    if place is not None:
        other = msgspec.json.decode(place, type=Place)._replace(opened="backup")
        text = msgspec.json.encode(other).decode()
        db.execute(*tables.set_meta("place", text))


def restore(path: Path, write: Callable[[Path], None]) -> None:
    """Make a folder of a backup, which `write` writes into the file that it is given. Raises
    `LogRefused` if the folder holds a log.
    """
    if (path / "triode.db").exists():
        raise LogRefused(f"{path} holds a log already; move it away, or take another folder")
    folder = Folder(path)
    try:
        new = path / "triode.new"
        new.unlink(missing_ok=True)
        write(new)
        new.replace(folder.database)
        sync(path)
    finally:
        folder.close()


def sync(path: Path) -> None:
    """A file's content, or a folder's names, are on the disk."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
