"""Values that end, in virtual time: none early, none missing, none twice, over restarts too."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from tests.app.test_journal import running_on
from triode.app.config.settings import Settings
from triode.app.log.memory import MemoryLog
from triode.app.service import running
from triode.app.service.execute import execute
from triode.app.service.expiring import AT_ONCE, LOOK_EVERY_S
from triode.app.service.saving import save
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.store.entry import decode_batch
from triode.store.lineage import Lineage
from triode.store.operation import Expire


@pytest.fixture(autouse=True)
def one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes as Trio's does, over restarts too."""
    base = time.time()
    monkeypatch.setattr(time, "time", lambda: base + trio.current_time())


async def set_(triode: Triode, path: str, ttl: float | None = None) -> None:
    given = {} if ttl is None else {"ttl": ttl}
    command = {"type": "set", "path": path, "value": 1, "create": True}
    await execute(triode, command | given)


async def without_a_log(**options: Any) -> Triode:
    return Triode(Settings(http_rate=None, ws_rate=None, **options), {})


async def entries(log: MemoryLog) -> list[Expire]:
    batches = await log.read(0)
    ops = [entry.op for batch in batches for entry in decode_batch(batch.data)]
    return [op for op in ops if isinstance(op, Expire)]


async def test_they_end_in_time_with_a_log(autojump_clock: object) -> None:
    async with running_on(MemoryLog(Lineage("e0")), {}) as triode:
        await ends(triode)


async def test_they_end_in_time_without_one(autojump_clock: object) -> None:
    triode = await without_a_log()
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run, triode)
        await ends(triode)
        nursery.cancel_scope.cancel()


async def ends(triode: Triode) -> None:
    for path, ttl in ((".a", 1), (".b", 2), (".c", None), (".d", 1), (".e.f", 1), (".e.g", 60)):
        await set_(triode, path, ttl)
    await trio.sleep(0.9)
    root: Any = triode.store.document.root
    assert list(root) == ["a", "b", "c", "d", "e"], "none early"
    await execute(triode, {"type": "touch", "path": ".d", "ttl": 5})
    await set_(triode, ".b")
    await trio.sleep(0.2 + LOOK_EVERY_S)
    root = triode.store.document.root
    assert list(root) == ["b", "c", "d", "e"]
    assert root["e"] == {"g": 1}
    await execute(triode, {"type": "touch", "path": ".d", "ttl": None})
    await trio.sleep(100)
    assert triode.store.document.root == {"b": 1, "c": 1, "d": 1, "e": {}}


@pytest.mark.parametrize("with_snapshot", [False, True])
async def test_what_ended_while_it_was_off_is_gone_before_anybody_asks(
    with_snapshot: bool, autojump_clock: object
) -> None:
    log = MemoryLog(Lineage("e0"))
    async with running_on(log, {}) as triode:
        for path, ttl in ((".a", 5), (".b", 500), (".c", 5)):
            await set_(triode, path, ttl)
        await set_(triode, ".c")
        if with_snapshot:
            await save(triode)
        rows, checksum = triode.store.deadlines.rows(), triode.store.checksum
    await trio.sleep(4)
    async with running_on(log) as triode:
        assert triode.store.deadlines.rows() == rows
        assert triode.store.checksum == checksum
        assert triode.store.document.root == {"a": 1, "b": 1, "c": 1}
    await trio.sleep(100)
    async with running_on(log) as triode:
        assert triode.store.document.root == {"b": 1, "c": 1}
        assert [op.paths for op in await entries(log)] == [(("a",),)], "none twice"
        await trio.sleep(400)
        assert triode.store.document.root == {"c": 1}
    async with running_on(log) as triode:
        assert triode.store.document.root == {"c": 1}


async def test_many_at_once_end_in_slices(autojump_clock: object) -> None:
    log = MemoryLog(Lineage("e0"))
    async with running_on(log, {}, max_work=10) as triode:
        for number in range(1005):
            await set_(triode, f".s.n{number}", 60)
        await trio.sleep(70)
        assert triode.store.document.root == {"s": {}}
        sizes = [len(op.paths) for op in await entries(log)]
        assert sizes == [AT_ONCE] * 10 + [5]
        assert len(triode.store.deadlines) == 0


async def test_no_more_than_the_setting_says(autojump_clock: object) -> None:
    async with running_on(MemoryLog(Lineage("e0")), {}, max_deadlines=2) as triode:
        await set_(triode, ".a", 5)
        await set_(triode, ".b", 5)
        with pytest.raises(Refusal) as caught:
            await set_(triode, ".c", 5)
        assert caught.value.status == 507
        await set_(triode, ".c")
        await trio.sleep(6)
        await set_(triode, ".d", 5)


async def test_a_batch_without_ttl_is_read_by_older_programs(autojump_clock: object) -> None:
    log = MemoryLog(Lineage("e0"))
    async with running_on(log, {}) as triode:
        await set_(triode, ".a")
        await set_(triode, ".b", 5)
        heads = [batch.data.partition(b"\n")[0] for batch in await log.read(0)]
        assert heads[-2:] == [b"1", b"2"]


@pytest.mark.parametrize("ttl", [0, -1, True, "5", [], 10**9, float("nan"), float("inf")])
async def test_what_is_no_time_is_refused(ttl: Any, autojump_clock: object) -> None:
    triode = await without_a_log()
    with pytest.raises(Refusal, match="seconds"):
        await set_(triode, ".a", ttl)
