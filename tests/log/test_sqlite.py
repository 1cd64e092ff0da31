"""What is the SQLite log's own: the disk, and what can go wrong with it."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from triode.app.log import sqlite, tables
from triode.app.log.database import Database
from triode.app.log.folder import RESERVE_BYTES, Place, file_system
from triode.app.log.log import Batch, LogBroken, LogFull, LogRefused
from triode.app.log.sqlite import SqliteLog

EPOCHS = iter(f"e{n}" for n in range(1_000_000))


def opened(path: Path) -> Database:
    return Database(path, is_synced=True, new_epoch=lambda: next(EPOCHS))


def killed(database: Database) -> None:
    """End it as `kill -9` would: what is in the WAL stays there."""
    # Closing the connection would write the WAL back; copying shows what a killed process leaves.
    for name in ("triode.db", "triode.db-wal"):
        source = database.folder.path / name
        (source.parent / f"{name}.kept").write_bytes(source.read_bytes())
    database._db.close()
    for name in ("triode.db", "triode.db-wal"):
        target = database.folder.path / name
        with target.open("wb") as file:
            file.write((target.parent / f"{name}.kept").read_bytes())
    database.folder.close()


class Failing:
    """A connection on which statements fail that begin with `at`."""

    def __init__(self, db: sqlite3.Connection, at: str, code: int) -> None:
        self._db, self._at, self._code = db, at, code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith(self._at):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self._code
            raise error
        return self._db.execute(statement, *values)


class TestPragmas:
    def test_as_designed(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        got = [
            database._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "locking_mode", "wal_autocheckpoint")
        ]
        assert got == ["wal", 2, "exclusive", 0]
        # With the lock held for good SQLite needs no memory shared with others.
        assert not (tmp_path / "triode.db-shm").exists()
        database.close()

    def test_what_goes_is_not_written_once_more(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        database.append(Batch(1, 1, bytes(20_000_000)))
        for _ in range(2):
            database.add_piece(snapshot := database.begin_snapshot(1), b"{}")
            database.finish_snapshot(snapshot)
        database._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        while database.trim():
            pass
        assert database._db.execute("SELECT count(*) FROM batch").fetchone() == (0,)
        assert (tmp_path / "triode.db-wal").stat().st_size < 1_000_000
        database.close()

    def test_nobody_else_can_open_the_file(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        other = sqlite3.connect(tmp_path / "triode.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("SELECT * FROM batch")
        other.close()
        database.close()


class TestEpoch:
    def test_it_survives_an_end_and_a_kill(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        epoch = database.opened.lineage.epoch
        database.append(Batch(1, 2, b"1\n{}"))
        killed(database)
        database = opened(tmp_path)
        assert database.opened.lineage.epoch == epoch
        assert database.opened.last == 2
        database.close()
        database = opened(tmp_path)
        assert database.opened.lineage.epoch == epoch
        database.close()

    @pytest.mark.parametrize("closed", [True, False])
    def test_after_the_next_start_of_the_machine_only_if_it_was_closed(
        self, tmp_path: Path, closed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = opened(tmp_path)
        epoch = database.opened.lineage.epoch
        database.append(Batch(1, 2, b"1\n{}"))
        database.close() if closed else killed(database)
        place = database.folder.__class__.place
        monkeypatch.setattr(
            "triode.app.log.folder.Folder.place", lambda self: place(self)._replace(boot="next")
        )
        database = opened(tmp_path)
        lineage = database.opened.lineage
        assert (lineage.epoch == epoch) is closed
        assert [(end.epoch, end.seq) for end in lineage.ended] == ([] if closed else [(epoch, 2)])
        database.close()

    def test_a_backup_that_was_put_back_begins_a_new_one(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        epoch = database.opened.lineage.epoch
        database.append(Batch(1, 2, b"1\n{}"))
        database.close()
        backup = (tmp_path / "triode.db").read_bytes()
        database = opened(tmp_path)
        database.append(Batch(3, 9, b"1\n{}"))
        database.close()
        (tmp_path / "triode.db").write_bytes(backup)  # the same inode
        database = opened(tmp_path)
        lineage = database.opened.lineage
        assert lineage.epoch != epoch
        assert [(end.epoch, end.seq) for end in lineage.ended] == [(epoch, 2)]
        database.close()

    def test_a_deleted_wal_is_noticed(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        epoch = database.opened.lineage.epoch
        database.append(Batch(1, 2, b"1\n{}"))
        database.checkpoint()
        database.append(Batch(3, 9, b"1\n{}"))
        killed(database)
        (tmp_path / "triode.db-wal").unlink()
        database = opened(tmp_path)
        assert database.opened.last == 2
        lineage = database.opened.lineage
        assert lineage.epoch != epoch
        assert [(end.epoch, end.seq) for end in lineage.ended] == [(epoch, 2)]
        killed(database)  # only once
        database = opened(tmp_path)
        assert database.opened.lineage == lineage
        database.close()

    @pytest.mark.parametrize("copied", [("triode.db", "triode.db-wal"), None])
    def test_a_copy_of_this_run_that_was_put_back_is_noticed(
        self, tmp_path: Path, copied: tuple[str, ...] | None
    ) -> None:
        """Into the files that were there: their inodes tell nothing."""
        database = opened(tmp_path)
        epoch = database.opened.lineage.epoch
        database.append(Batch(1, 2, b"1\n{}"))
        names = copied or [file.name for file in tmp_path.iterdir()]
        kept = {name: (tmp_path / name).read_bytes() for name in names}
        database.append(Batch(3, 9, b"1\n{}"))
        killed(database)
        for name, data in kept.items():
            (tmp_path / name).write_bytes(data)
        database = opened(tmp_path)
        assert database.opened.last == 2
        lineage = database.opened.lineage
        assert lineage.epoch != epoch
        assert [(end.epoch, end.seq) for end in lineage.ended] == [(epoch, 2)]
        database.close()

    def test_nobody_else_may_read_it(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        database.append(Batch(1, 2, b"1\n{}"))
        for file in tmp_path.glob("triode.db*"):
            assert file.stat().st_mode & 0o077 == 0, file
        database.close()

    def test_places(self) -> None:
        here = Place("boot", "machine", 7, "n1")
        assert here.follows(here, closed=False)
        for other in ({"machine": "m2"}, {"inode": 8}, {"opened": "n2"}):
            assert not here._replace(**other).follows(here, closed=True)


class TestFull:
    def test_a_batch_without_room_is_not_there_and_the_log_goes_on(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        database.append(Batch(1, 1, bytes(100_000)))
        pages = database._one("PRAGMA page_count")
        database._db.execute(f"PRAGMA max_page_count={pages + 4}")
        with pytest.raises(LogFull):
            database.append(Batch(2, 2, bytes(100_000)))
        assert [batch.last for batch in database.read(0)] == [1]
        database._db.execute("PRAGMA max_page_count=100000")
        database.append(Batch(2, 3, b"small"))
        assert [batch.last for batch in database.read(0)] == [1, 3]
        database.close()

    def test_the_reserve_is_for_making_room_and_not_for_writes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = opened(tmp_path)
        reserve = (tmp_path / "triode.reserve").stat()
        assert (reserve.st_size, reserve.st_mode & 0o777) == (RESERVE_BYTES, 0o600)
        database.append(Batch(1, 1, b"1\n{}"))
        free = RESERVE_BYTES
        monkeypatch.setattr("triode.app.log.folder.Folder.free_bytes", lambda _: free)
        real = database._db
        database._db = Failing(real, "INSERT INTO batch", sqlite3.SQLITE_FULL)  # type: ignore[assignment] # stands in for it
        with pytest.raises(LogFull):
            database.append(Batch(2, 2, b"1\n{}"))
        database._db = real
        assert not (tmp_path / "triode.reserve").exists()
        with pytest.raises(LogFull):  # although it would fit
            database.append(Batch(2, 2, b"1\n{}"))
        made = database.begin_snapshot(1)
        database.add_piece(made, b"{}")
        database.finish_snapshot(made)
        assert not database.has_room()
        free = 1 << 40
        assert database.has_room()
        database.append(Batch(2, 2, b"1\n{}"))
        assert (tmp_path / "triode.reserve").exists()
        database.close()


class TestBroken:
    @pytest.mark.parametrize("at", ["INSERT", "BEGIN", "REPLACE", "COMMIT"])
    @pytest.mark.parametrize(
        "code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT]
    )
    def test_after_a_failed_commit_there_is_no_second_try(
        self, tmp_path: Path, at: str, code: int
    ) -> None:
        database = opened(tmp_path)
        snapshot = database.begin_snapshot(0)
        real = database._db
        database._db = Failing(real, at, code)  # type: ignore[assignment] # stands in for it
        append = partial(database.append, Batch(1, 1, b"1\n{}"))
        with pytest.raises(LogBroken, match="disk I/O error"):
            append() if at == "INSERT" else database.finish_snapshot(snapshot)
        database._db = real
        with pytest.raises(LogBroken):
            database.append(Batch(1, 1, b"1\n{}"))
        database.close()
        # Closing would write the WAL back, and delete it: from pages that may be gone.
        assert (tmp_path / "triode.db-wal").stat().st_size

    def test_old_log_that_finds_no_room_to_go_leaves_no_query_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("triode.app.log.database.TRIM_BYTES", 1)
        database = opened(tmp_path)
        for seq in (1, 2, 3):
            database.append(Batch(seq, seq, b"1\n{}"))
        made = database.begin_snapshot(3)
        database.add_piece(made, b"{}")
        database.finish_snapshot(made)
        real = database._db
        database._db = Failing(real, "DELETE FROM batch", sqlite3.SQLITE_FULL)  # type: ignore[assignment] # stands in for it
        with pytest.raises(LogFull) as held:  # as by the task that tries again in 30 s
            database._trim_log()
        database._db = real
        database.checkpoint()
        del held
        database.close()

    @pytest.mark.parametrize(
        "at",
        ["SELECT max(", "SELECT seq", "SELECT sum(", "SELECT snapshot", "SELECT min(",
         "SELECT last"],
    )  # fmt: skip
    def test_what_a_snapshot_cannot_read_ends_it_too(self, tmp_path: Path, at: str) -> None:
        database = opened(tmp_path)
        database.append(Batch(1, 1, b"1\n{}"))
        database._db = Failing(database._db, at, sqlite3.SQLITE_IOERR_READ)  # type: ignore[assignment] # stands in for it
        with pytest.raises(LogBroken, match="disk I/O error"):
            self._save(database)
        database.close()

    def test_what_the_log_command_cannot_read_ends_it_too(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        database._db = Failing(database._db, "SELECT min(", sqlite3.SQLITE_IOERR_READ)  # type: ignore[assignment] # stands in for it
        with pytest.raises(LogBroken, match="disk I/O error"):
            database.floor()
        database.close()

    @staticmethod
    def _save(database: Database) -> None:
        made = database.begin_snapshot(1)
        database.add_piece(made, b"{}")
        database.finish_snapshot(made)
        database.trim()

    def test_a_failed_checkpoint_is_one(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        database._db = Failing(  # type: ignore[assignment] # stands in for it
            database._db, "PRAGMA wal_checkpoint", sqlite3.SQLITE_IOERR_FSYNC
        )
        with pytest.raises(LogBroken):
            database.checkpoint()
        with pytest.raises(LogBroken):
            database.append(Batch(1, 1, b"1\n{}"))
        database.close()


class TestRefused:
    def test_another_format(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        database._set("format", "99")
        database.close()
        with pytest.raises(LogRefused, match=r"format 99.*a newer one"):
            opened(tmp_path)
        with sqlite3.connect(tmp_path / "triode.db") as db:  # and it was let go
            db.execute(*tables.set_meta("format", str(tables.FORMAT)))
        db.close()
        opened(tmp_path).close()

    def test_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "triode.db").write_bytes(b"something else" * 1000)
        with pytest.raises(LogRefused, match="is not a log of Triode: it is no SQLite database"):
            opened(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(LogRefused, match="cannot be used"):
            opened(tmp_path / "file" / "data")

    def test_network_drives(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mounts = (
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
            "30 22 0:40 / /srv/my\\040share rw shared:1 - nfs4 server:/x rw\n"
            "31 30 8:2 / /srv/my\\040share/disk rw - xfs /dev/sdb rw\n"
        )
        assert file_system(Path("/srv"), mounts) == "ext4"
        assert file_system(Path("/srv/my share/data"), mounts) == "nfs4"
        assert file_system(Path("/srv/my share2"), mounts) == "ext4"
        assert file_system(Path("/srv/my share/disk/data"), mounts) == "xfs"
        monkeypatch.setattr("triode.app.log.folder.file_system", lambda _: "nfs4")
        with pytest.raises(LogRefused, match="network drive"):
            opened(tmp_path)

    def test_a_place_can_be_kept(self) -> None:
        place = Place("boot", "machine", 7, "n1")
        assert msgspec.json.decode(msgspec.json.encode(place), type=Place) == place


class TestPieces:
    def test_they_are_not_synced_one_by_one_but_with_the_end(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        told: list[str] = []
        database._db.set_trace_callback(told.append)
        snapshot = database.begin_snapshot(0)
        database.add_piece(snapshot, b"piece")
        database.finish_snapshot(snapshot)
        database._db.set_trace_callback(None)
        level, at = "FULL", {}
        for statement in told:
            if statement.startswith("PRAGMA synchronous="):
                level = statement.partition("=")[2]
            elif statement.startswith(("INSERT INTO piece", "REPLACE INTO snapshot")):
                at[statement.split()[0]] = level
        assert at == {"INSERT": "NORMAL", "REPLACE": "FULL"}
        database.close()

    def test_one_without_room_leaves_syncing_on(self, tmp_path: Path) -> None:
        database = opened(tmp_path)
        snapshot = database.begin_snapshot(0)
        pages = database._one("PRAGMA page_count")
        database._db.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(LogFull):
            database.add_piece(snapshot, bytes(100_000))
        assert database._one("PRAGMA synchronous") == 2
        database.close()

    def test_an_old_snapshot_goes_in_parts_and_its_number_is_not_taken(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("triode.app.log.database.TRIM_PIECES", 4)
        database = opened(tmp_path)
        made = []
        for seq in range(3):
            made.append(database.begin_snapshot(seq))
            for number in range(10):
                database.add_piece(made[-1], b"%d-%d" % (seq, number))
            database.finish_snapshot(made[-1])
        assert database._one("SELECT count(*) FROM piece") == 30, "not all in one commit"
        half = database.begin_snapshot(3)
        database.add_piece(half, b"half")
        again = database.begin_snapshot(4)
        assert again == half + 1
        parts = 0
        while database.trim():
            parts += 1
        assert parts == 3
        assert database._one("SELECT count(*) FROM piece") == 20
        assert database.read_piece(made[1], 9) == b"1-9"
        database.close()


async def test_that_it_is_alone_is_said_only_when_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "SOUND", (99, 0, 0))
    caplog.set_level("INFO", "triode")
    first, second = SqliteLog(tmp_path), SqliteLog(tmp_path)
    await first.open()
    assert "with another program" in caplog.text
    caplog.clear()
    with pytest.raises(LogRefused, match="in use"):
        await second.open()
    assert caplog.text == ""
    await first.aclose()


async def test_that_writes_are_missing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server whose WAL was deleted began with nothing, and said nothing of it."""
    database = opened(tmp_path)
    database.append(Batch(1, 7, b"1\n{}"))
    killed(database)
    (tmp_path / "triode.db-wal").unlink()
    for said in (True, False):
        log = SqliteLog(tmp_path)
        assert (await log.open()).last == 0
        assert ("the last 7 writes are missing" in caplog.text) is said
        await log.aclose()
        caplog.clear()
