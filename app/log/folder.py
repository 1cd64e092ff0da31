"""The folder that a log lives in: taken by one process, on a disk of this machine, and known again.

triode.db  triode.db-wal    SQLite's
triode.lock                 locked by the process that has the folder; names the run
triode.last                 the last entry that was committed: known apart from the database, so
                            that a deleted WAL, or a database that was put back, is noticed
triode.reserve              room that is given up when the disk is full, so that old log can go
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from triode.app.log.log import LogInUse, LogRefused

RESERVE_BYTES: Final = 16 * 1024 * 1024
# What is in memory only.
VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
# Locks and syncs on these are promises of another machine.
NETWORK: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone",
     "fuse.glusterfs", "fuse.ceph", "fuse.davfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
     "nfs4", "smb2", "smb3", "smbfs", "vboxsf", "prl_fs"}
)  # fmt: skip


class Place(NamedTuple):
    """What tells a log that went on from one that was put back: a copy, a backup, a disk of
    another machine. `boot` is the run of the kernel: after the next one, what was written last may
    be missing although it was synced (disks lie). `opened` is new each time the folder is taken:
    a name, and when the file system says it was written, which no copy can bring along.
    """

    boot: str
    machine: str
    inode: int
    opened: str

    def follows(self, last: Place, *, closed: bool) -> bool:
        """Whether nothing can be missing since the log was at `last`; `closed`: it was closed
        then, so all had been written long before the machine ended.
        """
        same = self.machine == last.machine and self.inode == last.inode
        return same and self.opened == last.opened and (closed or self.boot == last.boot)


class Folder:
    """A folder, taken. Made in a thread: it waits for the disk."""

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there. Raises `LogRefused`."""
        self.path = path
        self.database = path / "triode.db"
        self._reserve = path / "triode.reserve"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            kind = file_system(path)
            if kind in NETWORK:
                raise LogRefused(
                    f"{path} is on a network drive ({kind}), which cannot promise that what was "
                    "written stays; take a folder on a disk of this machine"
                )
            self._lock = _open(path / "triode.lock")
        except OSError as error:
            raise LogRefused(f"{path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise LogRefused(f"{path} cannot be locked: {error.strerror}") from error
            raise LogInUse(f"{path} is in use by another Triode") from error
        try:
            self._last = _open(path / "triode.last")
            # Nobody else may read it, whatever the folder lets them; the WAL takes after it.
            os.close(_open(self.database))
            # So that a cut of the power does not take the files with their names.
            for folder in (path, path.parent):
                _sync(folder)
        except OSError as error:
            os.close(self._lock)
            raise LogRefused(f"{path} cannot be used: {error.strerror}") from error

    def place(self) -> Place:
        """Where and when the database is."""
        return Place(
            _text("/proc/sys/kernel/random/boot_id"),
            _text("/etc/machine-id"),
            self.database.stat().st_ino,
            self._opened(),
        )

    def _opened(self) -> str:
        name = os.pread(self._lock, 64, 0).decode("ascii", "replace")
        return f"{name}@{os.fstat(self._lock).st_ctime_ns}"

    def renew(self, place: Place) -> Place:
        """The same place, taken anew. The database has to keep it."""
        os.pwrite(self._lock, secrets.token_hex(8).encode(), 0)
        os.fsync(self._lock)
        return place._replace(opened=self._opened())

    def note(self, last: int) -> None:
        """The entry `last` is committed. Not synced: it outlives a kill, and for all else there is
        `Place.boot`.
        """
        with contextlib.suppress(OSError):
            os.pwrite(self._last, b"%020d" % last, 0)

    def noted(self) -> int | None:
        """The entry that was noted last; None if there is no telling."""
        try:
            return int(os.pread(self._last, 20, 0))
        except (OSError, ValueError):
            return None

    def free_bytes(self) -> int:
        """What is free on the disk, for this user."""
        there = os.statvfs(self.path)
        return there.f_bavail * there.f_frsize

    def database_bytes(self) -> int:
        """What the database takes."""
        size = 0
        for name in ("triode.db", "triode.db-wal"):
            with contextlib.suppress(OSError):
                size += (self.path / name).stat().st_size
        return size

    def keep_reserve(self) -> bool:
        """Keep some room for when there is none. False: there is none."""
        with contextlib.suppress(FileNotFoundError):
            if self._reserve.stat().st_size == RESERVE_BYTES:
                self._reserve.chmod(0o600)  # once it was made for all to read
                return True
        if self.free_bytes() < 3 * RESERVE_BYTES:
            return False
        try:
            file = _open(self._reserve)
            try:
                os.posix_fallocate(file, 0, RESERVE_BYTES)
            finally:
                os.close(file)
        except OSError:
            self.give_reserve()
            return False
        return True

    def give_reserve(self) -> None:
        """Give that room up."""
        self._reserve.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others take it."""
        os.close(self._last)
        os.close(self._lock)


def file_system(path: Path, mounts: str | None = None) -> str:
    """The kind of file system that a path is on; "" if that cannot be known (not on Linux)."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text()
        except OSError:
            return ""
    best, kind = "", ""
    real = os.path.realpath(path)
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        # Spaces and the like are written in octal there.
        at = left.split(" ")[4].encode().decode("unicode_escape")
        inside = at == "/" or real == at or real.startswith(at + "/")
        # Of two on the same place the later one lies on top.
        if inside and len(at) >= len(best):
            best, kind = at, right.split(" ")[0]
    return kind


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _sync(folder: Path) -> None:
    try:
        there = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # somebody else's, and so was there before
    try:
        os.fsync(there)
    finally:
        os.close(there)


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
