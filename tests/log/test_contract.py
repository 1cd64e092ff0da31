"""What every log has to do, asked of each alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from triode.app.log.log import Batch, Log, LogRefused
from triode.app.log.memory import MemoryLog
from triode.app.log.sqlite import SqliteLog
from triode.store.lineage import Lineage

Reopen = Callable[[], Log]


@pytest.fixture(params=["memory", "sqlite", "sqlite relaxed"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Gives the same log each time, as another process would find it."""
    if request.param == "memory":
        log = MemoryLog(Lineage("e0"))
        return lambda: log
    is_synced = request.param == "sqlite"
    return lambda: SqliteLog(tmp_path / "data", is_synced=is_synced)


def batch(first: int, count: int, fill: bytes = b"x") -> Batch:
    return Batch(first, first + count - 1, b"1\n" + fill * count)


async def append(log: Log, wanted: Batch) -> None:
    await log.append(wanted.data, wanted.last + 1 - wanted.first)
    assert log.take() == wanted._replace(is_own=True)


async def all_after(log: Log, since: int) -> list[Batch]:
    found: list[Batch] = []
    while more := await log.read(found[-1].last if found else since):
        found += more
    return found


async def snapshot(log: Log, seq: int, *pieces: bytes) -> int:
    made = await log.begin_snapshot(seq)
    for piece in pieces:
        await log.add_piece(made, piece)
    await log.finish_snapshot(made)
    return made


async def test_a_new_log_is_empty(reopen: Reopen) -> None:
    log = reopen()
    opened = await log.open()
    assert (opened.floor, opened.last, list(opened.snapshots)) == (0, 0, [])
    assert opened.lineage.ended == ()
    assert await log.read(0) == []
    await log.aclose()


async def test_what_was_appended_is_there_afterwards(reopen: Reopen) -> None:
    log = reopen()
    lineage = (await log.open()).lineage
    batches = [batch(1, 3), batch(4, 1), batch(5, 512)]
    for each in batches:
        await append(log, each)
    assert await all_after(log, 0) == batches
    await log.aclose()
    log = reopen()
    opened = await log.open()
    assert (opened.floor, opened.last, opened.lineage) == (0, 516, lineage)
    assert await all_after(log, 0) == batches
    assert await all_after(log, 3) == batches[1:]
    assert await all_after(log, 5) == batches[2:]  # the batch that has the entry 6 in it
    assert await all_after(log, 516) == []
    await append(log, batch(517, 1))
    await log.aclose()


async def test_it_is_read_in_parts(reopen: Reopen) -> None:
    log = reopen()
    await log.open()
    batches = [Batch(n, n, bytes(600_000)) for n in range(1, 7)]
    for each in batches:
        await append(log, each)
    assert 1 <= len(await log.read(0)) < 6
    assert await all_after(log, 0) == batches
    await log.aclose()


async def test_only_one_has_it(reopen: Reopen) -> None:
    log = reopen()
    await log.open()
    with pytest.raises(LogRefused, match="in use"):
        await reopen().open()
    await log.aclose()
    log = reopen()
    await log.open()
    await log.aclose()


async def test_a_snapshot_comes_back(reopen: Reopen) -> None:
    log = reopen()
    await log.open()
    await append(log, batch(1, 10))
    made = await snapshot(log, 7, b'{"a":', b"1}")
    await log.aclose()
    log = reopen()
    opened = await log.open()
    assert list(opened.snapshots) == [(made, 7, 2)]
    assert [await log.read_piece(made, n) for n in range(2)] == [b'{"a":', b"1}"]
    await log.aclose()


async def test_two_snapshots_stay_and_the_log_behind_the_older_one(reopen: Reopen) -> None:
    log = reopen()
    await log.open()
    made = []
    for first in range(1, 41, 10):
        await append(log, batch(first, 10))
        made.append(await snapshot(log, first + 9, b"%d" % first))
    await append(log, batch(41, 5))
    await log.aclose()
    log = reopen()
    opened = await log.open()
    assert [(one.id, one.seq) for one in opened.snapshots] == [(made[3], 40), (made[2], 30)]
    assert (opened.floor, opened.last) == (30, 45)
    assert await all_after(log, 30) == [batch(31, 10), batch(41, 5)]
    with pytest.raises(LogRefused, match="21 to 30 are not in the log"):
        await log.read(20)
    await log.aclose()


async def test_a_snapshot_that_was_not_finished_is_none(reopen: Reopen) -> None:
    log = reopen()
    await log.open()
    await append(log, batch(1, 10))
    whole = await snapshot(log, 5, b"whole")
    half = await log.begin_snapshot(10)
    await log.add_piece(half, b"half")
    await log.aclose()
    log = reopen()
    opened = await log.open()
    assert list(opened.snapshots) == [(whole, 5, 1)]
    assert opened.floor == 0
    again = await snapshot(log, 10, b"of", b"now")
    assert [await log.read_piece(again, n) for n in range(2)] == [b"of", b"now"]
    await log.aclose()


async def test_all_of_it_in_a_snapshot(reopen: Reopen) -> None:
    log = reopen()
    await log.open()
    await append(log, batch(1, 10))
    for _ in range(2):
        await snapshot(log, 10, b"all")
    await log.aclose()
    log = reopen()
    opened = await log.open()
    assert (opened.floor, opened.last) == (10, 10)
    await append(log, batch(11, 1))
    assert await all_after(log, 10) == [batch(11, 1)]
    await log.aclose()


async def test_bytes_are_what_a_start_would_read(reopen: Reopen) -> None:
    log = reopen()
    await log.open()
    assert log.bytes == 0
    await append(log, batch(1, 100))
    assert log.bytes == 102
    await snapshot(log, 100, b"all of it")
    assert log.bytes == 0
    await append(log, batch(101, 8))
    assert log.bytes == 10
    await log.aclose()
    log = reopen()
    await log.open()
    assert log.bytes == 10
    await log.aclose()
