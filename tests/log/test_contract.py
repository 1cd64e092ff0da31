"""What every log has to do, asked of each alike. A shared one is asked through a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.cluster.conftest import FOUND, NAMES, NONE
from tests.cluster.server import running
from triode.app.log.log import Batch, Log, LogRefused, Opened
from triode.app.log.memory import MemoryLog
from triode.app.log.shared.valkey import ValkeyLog
from triode.app.log.sqlite import SqliteLog
from triode.store.lineage import Lineage

OWN = ("memory", "sqlite", "sqlite relaxed")
# A shared log that does not answer fails a test, instead of holding it.
PATIENCE_S = 45.0

# The log, open, and how it was found. Closed behind it.
Open = Callable[[], AbstractAsyncContextManager[tuple[Log, Opened]]]


# One kind of server: that both kinds decide alike is tested with the scripts.
@pytest.fixture(params=[*OWN, *(NAMES[:1] or ["valkey"])])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same log each time, as another process would find it."""
    if request.param in OWN:
        memory = MemoryLog(Lineage("e0"))

        def log_of() -> Log:
            if request.param == "memory":
                return memory
            return SqliteLog(tmp_path / "data", is_synced=request.param == "sqlite")

        yield lambda: _own(log_of())
        return
    if not FOUND:
        pytest.skip(NONE)
    async with running(FOUND[request.param], tmp_path) as server:
        yield lambda: _shared(_soon_open(ValkeyLog(server.address)))


@pytest.fixture
def own(kept: Open, request: pytest.FixtureRequest) -> Open:
    """One that is not shared."""
    if request.node.callspec.params["kept"] not in OWN:
        pytest.skip("of a log of one's own alone")
    return kept


def _soon_open(log: ValkeyLog) -> ValkeyLog:
    """Of a new log it is soon sure that nobody has anything to give it."""
    log._member._window_s = 0.01
    return log


@asynccontextmanager
async def _own(log: Log) -> AsyncIterator[tuple[Log, Opened]]:
    opened = await log.open()
    try:
        yield log, opened
    finally:
        await log.aclose()  # noqa: ASYNC102 # at its own pace


@asynccontextmanager
async def _shared(log: ValkeyLog) -> AsyncIterator[tuple[Log, Opened]]:
    """A new one is given its first snapshot, as a Triode would: before that it takes nothing. What
    an older one holds already is taken.
    """
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)  # noqa: ASYNC113 # `open` waits for it
            try:
                found = opened = await log.open()
                if not opened.snapshots:
                    await snapshot(log, 0, b"new")
                    opened = await log.open_again()
                log.begin_at(opened.snapshots[0])
                seq = opened.snapshots[0].seq
                while seq < opened.last:
                    seq = (await take(log)).last
                yield log, found
            finally:
                await log.aclose()  # noqa: ASYNC102 # a second at most
            nursery.cancel_scope.cancel()


def batch(first: int, count: int, fill: bytes = b"x") -> Batch:
    return Batch(first, first + count - 1, b"1\n" + fill * count)


async def take(log: Log) -> Batch:
    """The next batch; a shared log has other news as well."""
    while not isinstance(news := log.take(), Batch):
        if news is None:
            await log.news()
    return news


async def append(log: Log, wanted: Batch) -> None:
    await log.append(wanted.data, wanted.last + 1 - wanted.first)
    assert await take(log) == wanted._replace(is_own=True)


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


async def test_a_new_log_is_empty(kept: Open) -> None:
    async with kept() as (log, opened):
        assert (opened.floor, opened.last, list(opened.snapshots)) == (0, 0, [])
        assert opened.lineage.ended == ()
        assert await log.read(0) == []


async def test_what_was_appended_is_there_afterwards(kept: Open) -> None:
    batches = [batch(1, 3), batch(4, 1), batch(5, 512)]
    async with kept() as (log, opened):
        lineage = opened.lineage
        for each in batches:
            await append(log, each)
        assert await all_after(log, 0) == batches
    async with kept() as (log, opened):
        assert (opened.floor, opened.last, opened.lineage) == (0, 516, lineage)
        assert await all_after(log, 0) == batches
        assert await all_after(log, 3) == batches[1:]
        assert await all_after(log, 5) == batches[2:]  # the batch that has the entry 6 in it
        assert await all_after(log, 516) == []
        await append(log, batch(517, 1))


async def test_it_is_read_in_parts(kept: Open) -> None:
    async with kept() as (log, _):
        batches = [Batch(n, n, bytes(600_000)) for n in range(1, 7)]
        for each in batches:
            await append(log, each)
        assert 1 <= len(await log.read(0)) < 6
        assert await all_after(log, 0) == batches


async def test_only_one_has_it(own: Open) -> None:
    async with own():
        with pytest.raises(LogRefused, match="in use"):
            async with own():
                pass
    async with own():
        pass


async def test_a_snapshot_comes_back(kept: Open) -> None:
    async with kept() as (log, _):
        await append(log, batch(1, 7))
        await append(log, batch(8, 3))
        made = await snapshot(log, 7, b'{"a":', b"1}")
    async with kept() as (log, opened):
        assert opened.snapshots[0] == (made, 7, 2)
        assert [await log.read_piece(made, n) for n in range(2)] == [b'{"a":', b"1}"]


async def test_a_snapshot_may_be_of_the_middle_of_a_batch(own: Open) -> None:
    async with own() as (log, _):
        await append(log, batch(1, 10))
        made = await snapshot(log, 7, b"seven")
    async with own() as (log, opened):
        assert list(opened.snapshots) == [(made, 7, 1)]
        assert await all_after(log, 7) == [batch(1, 10)]


async def test_two_snapshots_stay_and_the_log_behind_the_older_one(kept: Open) -> None:
    async with kept() as (log, _):
        made = []
        for first in range(1, 41, 10):
            await append(log, batch(first, 10))
            made.append(await snapshot(log, first + 9, b"%d" % first))
        await append(log, batch(41, 5))
    async with kept() as (log, opened):
        assert [(one.id, one.seq) for one in opened.snapshots] == [(made[3], 40), (made[2], 30)]
        assert (opened.floor, opened.last) == (30, 45)
        assert await log.floor() == 30
        assert await all_after(log, 30) == [batch(31, 10), batch(41, 5)]
        with pytest.raises(LogRefused, match="21 to 30 are not in the log"):
            await log.read(20)
        with pytest.raises(LogRefused):
            await log.read_piece(made[0], 0)


async def test_a_snapshot_that_was_not_finished_is_none(kept: Open) -> None:
    async with kept() as (log, _):
        await append(log, batch(1, 5))
        await append(log, batch(6, 5))
        whole = await snapshot(log, 5, b"whole")
        await log.add_piece(await log.begin_snapshot(10), b"half")
    async with kept() as (log, opened):
        assert opened.snapshots[0] == (whole, 5, 1)
        assert max(one.seq for one in opened.snapshots) == 5
        assert await all_after(log, 5) == [batch(6, 5)]
        again = await snapshot(log, 10, b"of", b"now")
        assert [await log.read_piece(again, n) for n in range(2)] == [b"of", b"now"]


async def test_all_of_it_in_a_snapshot(kept: Open) -> None:
    async with kept() as (log, _):
        await append(log, batch(1, 10))
        made = [await snapshot(log, 10, b"all") for _ in range(2)]
    async with kept() as (log, opened):
        # A shared log takes no second snapshot of the same entry: the first is as good.
        assert opened.snapshots[0].id in made
        assert (opened.snapshots[0].seq, opened.last) == (10, 10)
        await append(log, batch(11, 1))
        assert await all_after(log, 10) == [batch(11, 1)]


async def test_bytes_are_what_a_start_would_read(kept: Open) -> None:
    async with kept() as (log, _):
        assert log.bytes == 0
        await append(log, batch(1, 100))
        assert log.bytes == 102
        await snapshot(log, 100, b"all of it")
        assert log.bytes == 0
        await append(log, batch(101, 8))
        assert log.bytes == 10
    async with kept() as (log, _):
        assert log.bytes == 10


async def test_what_one_appends_all_take(kept: Open, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["kept"] in OWN:
        pytest.skip("of a shared log alone")
    async with kept() as (one, _), kept() as (two, _):
        wanted = [batch(1, 2), batch(3, 1), batch(4, 7)]
        for log, each in zip((one, two, one), wanted, strict=True):
            await log.append(each.data, each.last + 1 - each.first)
        for log, own in ((one, (True, False, True)), (two, (False, True, False))):
            taken = [await take(log) for _ in wanted]
            assert taken == [b._replace(is_own=o) for b, o in zip(wanted, own, strict=True)]
