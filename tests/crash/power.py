"""`python -m tests.crash.power`: the power is cut under the log's file, again and again.

Afterwards the file holds each batch whose commit was answered, and of what was not answered a whole
batch or nothing; the snapshots that were finished; and a new epoch that says where the old one
ended.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click

from tests.crash.disk import Connection, Disk
from tests.crash.ledger import Violation
from triode.app.log import database
from triode.app.log.database import Database
from triode.app.log.folder import Folder, Place
from triode.app.log.log import Batch, LogError
from triode.store.lineage import Lineage

# So small that the WAL is written back, and old log goes, many times before a cut.
SMALL = {
    "CHECKPOINT_IDLE_BYTES": 16 * 1024, "CHECKPOINT_BYTES": 64 * 1024,
    "CHECKPOINT_PIECES_BYTES": 24 * 1024, "TRIM_BYTES": 8 * 1024,
}  # fmt: skip
# Cuts of one machine; then a new one.
LIVES = 25


class Known:
    """What the file has to hold: what was answered, and the one batch that was under way."""

    def __init__(self) -> None:
        self.batches: dict[int, Batch] = {}
        self.answered = 0
        self.snapshots: dict[int, tuple[int, list[bytes]]] = {}
        self.finished = 0
        self.lineage: Lineage | None = None


class Machine:
    """A machine with one log, over any number of power cuts."""

    def __init__(self, home: Path, rng: random.Random, *, is_synced: bool, lies: bool) -> None:
        self._home = home
        self._rng = rng
        self._is_synced = is_synced
        self.disk = Disk(lies=lies)
        self.known = Known()
        self._boots = itertools.count()
        self._epochs = (f"e{number}" for number in itertools.count())
        self._connections: list[Connection] = []
        # Cuts after which a batch was there that had not been answered.
        self.found = 0

    def life(self) -> None:
        """From one start to a cut of the power. Raises `Violation`."""
        rng, disk = self._rng, self.disk
        disk.start(rng.choice((5, 30, 200, 1000)) * rng.randrange(1, 5))
        boot = f"boot {next(self._boots)}"
        with started(boot):
            log: Database | None = None
            try:
                log = self._open()
                self._check(log)
                self._work(log)
            except LogError as error:
                if not disk.is_off:
                    raise Violation(f"the log does not go on: {error}") from error
            finally:
                disk.end()
                if log is not None:
                    log.close()
                for connection in self._connections:
                    connection.close()
                self._connections.clear()
        disk.cut(rng)

    def _open(self) -> Database:
        def connect(path: Path) -> Connection:
            self._connections.append(Connection(str(path)))
            return self._connections[-1]

        return Database(
            self._home,
            is_synced=self._is_synced,
            new_epoch=lambda: next(self._epochs),
            connect=connect,  # type: ignore[arg-type] # by its methods
        )

    # ── what has to be there ────────────────────────────────────────────────────────────────────

    def _check(self, log: Database) -> None:
        opened, known = log.opened, self.known
        if opened.last < known.answered and self._is_synced:
            raise Violation(f"{known.answered} was answered; the log ends at {opened.last}")
        self._check_batches(log)
        self._check_snapshots(log)
        if known.lineage is not None:
            epoch = known.lineage.epoch
            ends = {end.epoch: end.seq for end in opened.lineage.ended}
            # Relaxed, the lineage may be lost as well: then old positions mean nothing any more.
            allowed = [opened.last] if self._is_synced else [None, *range(opened.last + 1)]
            if ends.get(epoch) not in allowed:
                raise Violation(f"{epoch} ended; the log ends at {opened.last}: {opened.lineage}")
        self.found += opened.last > known.answered
        # What was not answered and is not there never was.
        for last in [last for last in known.batches if last > opened.last]:
            del known.batches[last]
        known.answered = opened.last
        known.lineage = opened.lineage

    def _check_batches(self, log: Database) -> None:
        opened = log.opened
        at = opened.floor
        while found := log.read(at):
            for batch in found:
                if self.known.batches.get(batch.last) != batch:
                    raise Violation(f"{batch} is not what was written")
            at = found[-1].last
        if at != opened.last:
            raise Violation(f"the log ends at {at} and says {opened.last}")

    def _check_snapshots(self, log: Database) -> None:
        snapshots = log.opened.snapshots
        newest = max((one.seq for one in snapshots), default=0)
        if newest < self.known.finished and self._is_synced:
            raise Violation(f"the snapshot of {self.known.finished} is missing")
        for one in snapshots:
            seq, pieces = self.known.snapshots[one.id]
            found = [log.read_piece(one.id, number) for number in range(one.pieces)]
            if (seq, pieces) != (one.seq, found):
                raise Violation(f"{one} is not what was written")
        if snapshots and log.opened.floor > min(one.seq for one in snapshots):
            raise Violation(f"no log from {snapshots[-1]} on: it begins at {log.opened.floor}")

    # ── work ────────────────────────────────────────────────────────────────────────────────────

    def _work(self, log: Database) -> None:
        """Until the power goes."""
        while True:
            kind = self._rng.random()
            if kind < 0.85:
                self._append(log)
            elif kind < 0.95:
                log.tidy()
            else:
                self._snapshot(log)

    def _append(self, log: Database) -> None:
        rng, known = self._rng, self.known
        first = known.answered + 1
        size = rng.choice((10, 200, 3000, 20_000))
        batch = Batch(first, first + rng.randrange(4), rng.randbytes(rng.randrange(1, size)))
        known.batches[batch.last] = batch
        log.append(batch)
        known.answered = batch.last

    def _snapshot(self, log: Database) -> None:
        rng, known = self._rng, self.known
        seq = known.answered
        made = log.begin_snapshot(seq)
        pieces: list[bytes] = []
        known.snapshots[made] = seq, pieces
        for _ in range(rng.randrange(1, 6)):
            pieces.append(rng.randbytes(rng.randrange(1, 10_000)))
            log.add_piece(made, pieces[-1])
            log.tidy_pieces()
            if rng.random() < 0.3:
                self._append(log)
        log.finish_snapshot(made)
        known.finished = seq
        while log.trim():
            pass


@contextmanager
def started(boot: str) -> Iterator[None]:
    """As a machine that has just been started sees its files."""
    place = Folder.place

    def of_this_start(self: Folder) -> Place:
        return place(self)._replace(boot=boot)

    with (
        mock.patch.object(Folder, "place", of_this_start),
        mock.patch.object(Folder, "keep_reserve", return_value=True),
        mock.patch.dict(vars(database), SMALL),
    ):
        yield


@dataclass
class Seen:
    """What came up in a run."""

    cuts: int = 0
    syncs: int = 0
    found: int = 0
    batches: int = 0

    def __str__(self) -> str:
        return (
            f"{self.cuts} cuts, {self.syncs} syncs, {self.batches} batches; after {self.found} "
            "cuts one was there that had not been answered"
        )


def cut_power(cuts: int, seed: int, *, is_synced: bool = True, lies: bool = False) -> Seen:
    """So many cuts. Raises `Violation`."""
    rng = random.Random(seed)
    seen = Seen()
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None
    while seen.cuts < cuts:
        with tempfile.TemporaryDirectory(dir=shm) as home:
            machine = Machine(Path(home), rng, is_synced=is_synced, lies=lies)
            try:
                for _ in range(min(cuts - seen.cuts, LIVES)):
                    machine.life()
                    seen.cuts += 1
            finally:
                machine.disk.unregister()
            seen.syncs += machine.disk.syncs
            seen.found += machine.found
            seen.batches += len(machine.known.batches)
    return seen


@click.command()
@click.option("--cuts", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seed", type=int, help="Of an earlier run: the same again.")
@click.option("--relaxed", is_flag=True, help="As with --durability relaxed: the last may go.")
@click.option("--lies", is_flag=True, help="The disk does not sync: it has to be found.")
def main(cuts: int, seed: int | None, relaxed: bool, lies: bool) -> None:
    """Cut the power, and look at what is left."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}")
    # SQLite goes on where some of its calls fail, which apsw has nobody else to tell.
    sys.unraisablehook = lambda _fault: None
    try:
        seen = cut_power(cuts, seed, is_synced=not relaxed, lies=lies)
    except Violation as violation:
        click.echo(f"VIOLATION: {str(violation)[:2000]}")
        raise SystemExit(1) from None
    click.echo(f"{seen}\nwhat was answered is there, and nothing is half there")


if __name__ == "__main__":
    main()
