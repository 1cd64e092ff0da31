"""`python -m tests.crash.damage`: each byte of a log's files is turned over, and its WAL cut there.

Each time the log either begins with the whole batches up to some number, or is refused in one
sentence. What it does not do is begin with something else.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import click

from tests.crash.ledger import Violation
from triode.app.log.database import Database
from triode.app.log.folder import Folder
from triode.app.log.log import Batch, LogError

FILES = ("triode.db", "triode.db-wal")


class Damaged:
    """The files of a log that was killed, and what is in it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        rng = random.Random(1)
        self.epoch = "e0"
        log = self._open("e0")
        self.batches = {}
        self.pieces: dict[int, list[bytes]] = {}
        for number in range(1, 25):
            batch = Batch(2 * number - 1, 2 * number, b"1\n%d\n" % number + text(rng, 600))
            self.batches[batch.last] = batch
            log.append(batch)
            if number in (5, 10):
                made = log.begin_snapshot(batch.last)
                self.pieces[made] = [text(rng, 5000) for _ in range(3)]
                for piece in self.pieces[made]:
                    log.add_piece(made, piece)
                log.finish_snapshot(made)
            if number == 20:
                log.checkpoint()
        self.last = batch.last
        # As a kill leaves them; closing would write the WAL back.
        self.files = {name: (home / name).read_bytes() for name in FILES}
        self._beside = {name: (home / name).read_bytes() for name in ("triode.last", "triode.lock")}
        log.close()

    def _open(self, epoch: str) -> Database:
        with mock.patch.object(Folder, "keep_reserve", return_value=True):
            return Database(self._home, is_synced=True, new_epoch=lambda: epoch)

    def look(self, **changed: bytes) -> str:
        """Open it with other bytes in a file, and read all: what came of it. Raises `Violation`."""
        for name, data in {**self.files, **self._beside}.items():
            (self._home / name).write_bytes(changed.get(name[-3:].lstrip("."), data))
        try:
            log = self._open("e1")
        except LogError as error:
            return sentence(error)
        try:
            return self._compare(log)
        except LogError as error:
            return sentence(error)
        finally:
            log.close()

    def _compare(self, log: Database) -> str:
        """As a start reads it: a snapshot, and what came after."""
        opened = log.opened
        if opened.last and not opened.snapshots:
            return "refused"
        for one in opened.snapshots:
            if [log.read_piece(one.id, n) for n in range(one.pieces)] != self.pieces[one.id]:
                raise Violation(f"{one} is not what was written")
            if self._read(log, one.seq) != opened.last:
                return "refused"
        if opened.last < self.last and opened.lineage.epoch == self.epoch:
            raise Violation(f"the log ends at {opened.last}, and its epoch goes on")
        return "whole" if opened.last == self.last else "its beginning"

    def _read(self, log: Database, at: int) -> int:
        while found := log.read(at):
            for batch in found:
                if self.batches.get(batch.last) != batch:
                    raise Violation(f"{batch} is not what was written")
            at = found[-1].last
        return at


def sentence(error: LogError) -> str:
    """Raises `Violation` unless it is one line."""
    if "\n" in str(error):
        raise Violation(f"a refusal in more than a line: {error}")
    return "refused"


def text(rng: random.Random, size: int) -> bytes:
    """Digits: another one in their place is as good JSON."""
    return bytes(rng.choices(b"0123456789", k=size))


def turned(data: bytes, at: int) -> bytes:
    """One bit is another. Of a digit: another digit."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def in_use(wal: bytes) -> int:
    """So many bytes of a WAL belong to its present run: frames with the salt of its head. Those
    behind them are left over from before the last checkpoint.
    """
    salt, at = wal[16:24], 32
    while wal[at + 8 : at + 16] == salt:
        at += 24 + 4096
    return at


@contextmanager
def damaged() -> Iterator[Damaged]:
    """In a folder of its own, in memory if that can be."""
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shm) as home:
        yield Damaged(Path(home))


def try_all(
    it: Damaged, places: Iterable[int], wal_places: Iterable[int]
) -> dict[str, Counter[str]]:
    """What came of a byte turned over in the file, in the WAL, and of a cut of the WAL. Raises
    `Violation`.
    """
    db, wal = (it.files[name] for name in FILES)
    seen = {what: Counter[str]() for what in ("file", "WAL", "WAL cut")}
    for at in places:
        seen["file"][it.look(db=turned(db, at))] += 1
    for at in wal_places:
        seen["WAL"][it.look(wal=turned(wal, at))] += 1
        seen["WAL cut"][it.look(wal=wal[:at])] += 1
    return seen


@click.command()
@click.option("--step", type=click.IntRange(1), default=1, show_default=True)
def main(step: int) -> None:
    """Turn over each byte, or one of STEP."""
    with damaged() as it:
        db, wal = len(it.files["triode.db"]), in_use(it.files["triode.db-wal"])
        click.echo(f"the file has {db} bytes, the WAL {wal} in use")
        try:
            seen = try_all(it, range(0, db, step), range(0, wal, step))
        except Violation as violation:
            click.echo(f"VIOLATION: {str(violation)[:2000]}")
            raise SystemExit(1) from None
    for what, counts in seen.items():
        click.echo(f"{what:8} " + ", ".join(f"{n} {came}" for came, n in counts.most_common()))


if __name__ == "__main__":
    main()
