"""Does every process that applies the same log come to the same?

    python -m tests.log.determinism --seeds 200 --ops 10000

For each seed a running Triode takes random writes of every kind: with conditions, grants and keys,
while its bounds change, its clock jumps, clients watch, and snapshots are made. Then the log is
read

    from the start    with another history, other pins, and in a process with other hashes
    from snapshots    each that was made, with other settings

and after each entry all have to agree in the checksum; at the end in the document as text, its
sizes, what was touched, the outcomes of keys and the server's records. The bounds of what is kept
are made small, so that they are reached.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from random import Random
from typing import Any, Final, NamedTuple

import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect
from tests.log.random_writes import ROOT, Writes
from triode.app.config.settings import Settings
from triode.app.log.memory import MemoryLog
from triode.app.service import running
from triode.app.service.decision import hold_to, redo
from triode.app.service.log_snapshot import decode_head, decode_tables, restore
from triode.app.service.saving import save
from triode.app.service.triode import Triode
from triode.app.service.under_way import Write
from triode.app.wire.refusal import Refusal
from triode.store import outcomes, touched
from triode.store.entry import decode_batch
from triode.store.lineage import Lineage
from triode.store.store import Store
from triode.store.value import decode

LINEAGE: Final = Lineage("e0")
SNAPSHOTS: Final = 3


class Kept(NamedTuple):
    """A log, whole: its snapshots as pieces, the first one made before the first entry, and all of
    its batches.
    """

    snapshots: list[list[bytes]]
    batches: list[bytes]


class Recorder(MemoryLog):
    """Keeps all, also what it lets go of."""

    def __init__(self) -> None:
        super().__init__(LINEAGE)
        self.kept = Kept([], [])
        self._pieces: list[bytes] = []

    async def append(self, data: bytes, count: int) -> None:
        await super().append(data, count)
        self.kept.batches.append(data)

    async def begin_snapshot(self, seq: int) -> int:
        self._pieces = []
        return await super().begin_snapshot(seq)

    async def add_piece(self, snapshot: int, data: bytes) -> None:
        await super().add_piece(snapshot, data)
        self._pieces.append(data)

    async def finish_snapshot(self, snapshot: int) -> None:
        await super().finish_snapshot(snapshot)
        self.kept.snapshots.append(self._pieces)


@contextmanager
def small_bounds() -> Iterator[None]:
    """What is kept of the past is forgotten soon."""
    names = ((outcomes, "KEPT"), (touched, "KEPT_CHANGES"), (touched, "KEPT_UNITS"))
    before = [getattr(module, name) for module, name in names]
    for (module, name), value in zip(names, (60, 100, 2000), strict=True):
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name), value in zip(names, before, strict=True):
            setattr(module, name, value)


def state(store: Store) -> tuple[Any, ...]:
    """All that has to be alike. As text: 1 is not 1.0, and members have an order."""
    return (
        repr(store.document.root),
        store.seq,
        store.bytes,
        store.footprint,
        store.touched.state(),
        list(store.outcomes.rows().items()),
        list(store.records.rows().items()),
        store.deadlines.rows(),
        store.time_ms,
        str(store.checksum),
    )


def digest(store: Store) -> str:
    return sha256(repr(state(store)).encode()).hexdigest()


async def live(seed: int, ops: int) -> tuple[Kept, dict[int, str], tuple[Any, ...]]:
    """A running Triode under random writes: its log, the checksum after each entry, its state."""
    random = Random(seed)
    log = Recorder()
    options = Settings(http_rate=None, ws_rate=None, history_items=random.choice((0, 50, 10_000)))
    triode = Triode(options, decode(ROOT), log=log)
    sums: dict[int, str] = {}
    writes = Writes(random, triode)
    saving = trio.Lock()

    def tell(write: Write) -> None:
        sums[triode.store.seq] = str(triode.store.checksum)

    async with trio.open_nursery() as nursery:
        await nursery.start(running.run, triode)
        triode.clock = writes.clock
        for filter in (".", ".users[n>3].name", "$..[?@.n > 2]", ".list[-2:]"):
            connect(triode, FakeLane(), filter)
        saves = sorted(random.sample(range(ops), min(ops, SNAPSHOTS)))
        begun: list[Write] = []
        for number in range(ops):
            if saves and number == saves[0]:
                nursery.start_soon(save_alone, triode, saving)  # while others write
                saves.pop(0)
            op, principal, key = await writes.next()
            assert triode.journal is not None
            try:
                begun.append(await triode.journal.submit(op, principal, tell, key=key))
            except Refusal:
                pass  # at once, and not logged
            if random.random() < 0.2:
                while begun:
                    await begun.pop().settled()
        for write in begun:
            await write.settled()
        await trio.testing.wait_all_tasks_blocked()
        kept = state(triode.store)
        nursery.cancel_scope.cancel()
    return log.kept, sums, kept


async def save_alone(triode: Triode, lock: trio.Lock) -> None:
    async with lock:
        await save(triode)


def again(
    kept: Kept, number: int, sums: dict[int, str] | None, *, history: int, pin: Random | None = None
) -> Store:
    """The store that the log gives, from one of its snapshots on. Raises AssertionError at the
    first entry after which the checksum is another.
    """
    pieces = kept.snapshots[number]
    head = decode_head(pieces[0])
    first = 1 + head.tables
    tables, document = decode_tables(head, pieces[1:first]), pieces[first:]
    store = Store({}, epoch="x", history_items=history, history_bytes=history * 1000)
    restore(store, head, tables, decode(b"".join(document), max_depth=512), LINEAGE)
    bounds = head.bounds
    hold_to(store, bounds)
    seq = 0
    for data in kept.batches:
        for entry in decode_batch(data):
            seq += 1
            if seq <= head.seq:
                continue
            if pin is not None and pin.random() < 0.3:
                with store.document.pin():
                    bounds = redo(store, bounds, entry)
            else:
                bounds = redo(store, bounds, entry)
            if sums is not None:
                assert str(store.checksum) == sums.get(seq, str(store.checksum)), (seq, entry)
    return store


def check(seed: int, ops: int) -> tuple[Kept, str]:
    """One seed in this process. Raises AssertionError."""
    kept, sums, before = trio.run(live, seed, ops)
    assert sums
    random = Random(seed)
    for number in range(len(kept.snapshots)):
        store = again(kept, number, sums, history=number and 7, pin=random)
        assert state(store) == before, f"from snapshot {number}"
    return kept, digest(store)


def replay_others() -> None:
    """In another process: what its parent sends it is read from the start; the digests."""
    while True:
        try:
            kept = pickle.load(sys.stdin.buffer)  # from our own parent
        except EOFError:
            return
        print(digest(again(kept, 0, None, history=3)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--ops", type=int, default=10_000)
    parser.add_argument("--replay", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable()
    with small_bounds():
        if options.replay:
            return replay_others()
        compare(options.first, options.seeds, options.ops)


def compare(first: int, seeds: int, ops: int) -> None:
    since = time.monotonic()
    command = [sys.executable, "-m", "tests.log.determinism", "--replay"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        entries = 0
        for seed in range(first, first + seeds):
            kept, mine = check(seed, ops)
            pickle.dump(kept, other.stdin)
            other.stdin.flush()
            theirs = other.stdout.readline().decode().strip()
            assert theirs == mine, f"seed {seed}: another process comes to something else"
            entries += sum(len(decode_batch(data)) for data in kept.batches)
        other.stdin.close()
    took_s = time.monotonic() - since
    print(
        f"{seeds} seeds of {ops} writes, {entries} entries; from the start, from {SNAPSHOTS} "
        f"snapshots, in another process: all agree ({took_s:.0f} s)"
    )


if __name__ == "__main__":
    main()
