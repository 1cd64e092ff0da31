"""A write with a key is done once, however often it is sent; with a log and without one."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.test_decision import begun
from tests.app.test_journal import SHOP, SlowLog, fresh, running_on, state
from triode.app.config.settings import Settings
from triode.app.service import running
from triode.app.service.decision import redo
from triode.app.service.execute import execute
from triode.app.service.saving import save
from triode.app.service.triode import Triode
from triode.app.service.write_key import AT_ONCE_BYTES, make_key
from triode.app.wire.refusal import Refusal
from triode.app.wire.write_key import check_key, key_of_field
from triode.limits.grant import FULL, Grant
from triode.limits.principal import OWNER, Principal
from triode.store import outcomes
from triode.store.change import Position
from triode.store.entry import Bounds, Entry
from triode.store.operation import Append, Batch, Increment, Merge, Operation, Patch, Set
from triode.store.outcomes import DONE, Key, Outcome, Outcomes


@asynccontextmanager
async def served(logged: bool, root: Any, **options: Any) -> AsyncIterator[Triode]:
    if logged:
        async with running_on(fresh(), root, **options) as triode:
            yield triode
        return
    triode = Triode(Settings(**options), root)
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run, triode)
        yield triode
        nursery.cancel_scope.cancel()


@pytest.fixture(params=[True, False], ids=["log", "memory"])
def logged(request: pytest.FixtureRequest) -> bool:
    chosen: bool = request.param
    return chosen


async def write(triode: Triode, op: Operation, key: str, who: Principal = OWNER) -> Any:
    """The position, or the status of the refusal."""
    try:
        return await triode.write(op, who, await make_key(who, key, op))
    except Refusal as refusal:
        return refusal.status


async def test_it_is_done_once(logged: bool) -> None:
    async with served(logged, {"n": 0}) as triode:
        first = await write(triode, Increment(("n",)), "k")
        await triode.write(Set(("m",), 1))
        assert await write(triode, Increment(("n",)), "k") == first
        assert await write(triode, Increment(("n",)), "l") != first
        assert triode.store.document.root == {"n": 2, "m": 1}


async def test_a_key_stands_for_one_write(logged: bool) -> None:
    async with served(logged, {"n": 0}) as triode:
        await write(triode, Increment(("n",)), "k")
        for other in (
            Increment(("n",), 2),
            Increment(("m",)),
            Increment(("n",), 1, if_position=Position("e0", 1)),
            Set(("n",), 1),
            Batch((Increment(("n",)),)),
        ):
            assert await write(triode, other, "k") == 422
        assert triode.store.document.root == {"n": 1}


async def test_keys_of_others_are_not_known(logged: bool) -> None:
    async with served(logged, {"list": []}) as triode:
        one, other = SHOP, Principal("token:t_2", "shop", SHOP.grant)
        told = [await write(triode, Append(("list",), 1), "k", who) for who in (one, other)]
        assert len(set(told)) == 2
        assert triode.store.document.root == {"list": [1, 1]}


async def test_a_stranger_is_known_from_another_address() -> None:
    op = Increment(("n",))
    at_home, outside = (Principal(f"ip:{at}", "anonymous", FULL) for at in "ab")
    one, other = await make_key(at_home, "k", op), await make_key(outside, "k", op)
    assert (one.name, one.asked) == (other.name, other.asked)
    assert one.by != other.by, "each address has its own share"


async def test_a_refusal_is_remembered(logged: bool) -> None:
    async with served(logged, {"n": 0}) as triode:
        for op, key, status in (
            (Set(("a", "b"), 1), "missing", 404),
            (Increment(("n",), 1, if_position=Position("x", 1)), "changed", 412),
            (Append(("n",), 1), "kind", 422),
        ):
            assert await write(triode, op, key) == status
        assert await write(triode, Set(("secret",), 1), "denied", SHOP) == 403
        await triode.write(Set((), {"n": [], "a": {}}))
        assert await write(triode, Set(("a", "b"), 1), "missing") == 404
        assert await write(triode, Append(("n",), 1), "kind") == 422
        assert await write(triode, Append(("n",), 1), "new") == triode.store.position
        assert triode.store.document.root == {"n": [1], "a": {}}


async def test_what_was_refused_for_now_is_tried_again(logged: bool) -> None:
    async with served(logged, {"old": "x" * 1500}, max_document_bytes=2000) as triode:
        assert await write(triode, Set(("new",), "y" * 1000), "k") == 507
        await triode.write(Set(("old",), None))
        assert await write(triode, Set(("new",), "y" * 1000), "k") == triode.store.position


async def test_one_that_is_under_way_is_waited_for() -> None:
    log = SlowLog()
    told: dict[int, Any] = {}
    async with running_on(log, {"n": 0}) as triode:

        async def increment(number: int, by: int) -> None:
            told[number] = await write(triode, Increment(("n",), by), "k")

        async with trio.open_nursery() as nursery:
            for number, by in enumerate((1, 1, 2)):
                nursery.start_soon(increment, number, by)
                await trio.testing.wait_all_tasks_blocked()
            assert told == {}
            log.open_up()
        assert triode.store.document.root == {"n": 1}
    assert told == {0: Position("e0", 1), 1: Position("e0", 1), 2: 422}


async def test_a_long_one_is_waited_for_without_a_log() -> None:
    """It gives way to others while it is planned; the last one comes in the middle of it."""
    document = {"list": [{"x": number} for number in range(3000)]}
    moves = [{"op": "move", "from": "/list/0", "path": "/list/2999"}] * 3
    async with served(False, document) as triode:
        told: list[Any] = []

        async def patch() -> None:
            told.append(await write(triode, Patch((), copy.deepcopy(moves)), "k"))

        async with trio.open_nursery() as nursery:
            # Both find out that it takes long before one of them is done.
            nursery.start_soon(patch)
            nursery.start_soon(patch)
            for _ in range(100):
                if triode._long.locked():
                    break
                await trio.lowlevel.checkpoint()
            nursery.start_soon(patch)
        assert told == [triode.store.position] * 3
        assert triode.store.seq == 1


async def test_one_that_is_cancelled_has_not_been_done() -> None:
    async with served(False, {"n": 0}) as triode:
        with trio.CancelScope() as scope:
            scope.cancel()
            await write(triode, Increment(("n",)), "k")
        assert len(triode.store.outcomes) == triode.store.seq == 0
        assert await write(triode, Increment(("n",)), "k") == triode.store.position


@pytest.mark.parametrize("saved", [False, True], ids=["log", "snapshot"])
async def test_it_is_known_after_a_restart(saved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triode.app.service.log_snapshot.TABLE_ROWS", 2)
    log = fresh()
    async with running_on(log, {"n": 0}) as triode:
        done = [await write(triode, Increment(("n",)), f"k{number}") for number in range(5)]
        assert await write(triode, Set(("a", "b"), 1), "missing") == 404
        if saved:
            await save(triode)
            await save(triode)
        before = state(triode), triode.store.outcomes.rows()
    async with running_on(log) as triode:
        assert (state(triode), triode.store.outcomes.rows()) == before
        for number, position in enumerate(done):
            assert await write(triode, Increment(("n",)), f"k{number}") == position
        assert await write(triode, Set(("a", "b"), 1), "missing") == 404
        assert await write(triode, Increment(("n",)), "new") == triode.store.position
        assert triode.store.document.root == {"n": 6}


async def test_a_blind_writers_answer_is_the_same_when_the_log_is_read() -> None:
    """He is told 403 whatever the reason: his outcome may not be the store's own status."""
    log = fresh()
    blind = Principal("token:t_3", "blind", Grant(read=(".n",), write=(".",)))
    deep = Merge((), {str(number): {} for number in range(2000)})
    async with running_on(log, {"n": 0}, max_work=300) as triode:
        assert await write(triode, Set(("a", "b"), 1), "missing", blind) == 403
        assert await write(triode, deep, "costly", blind) == 403
        assert await write(triode, deep, "costly", OWNER) == 422
        before = triode.store.outcomes.rows()
        assert [outcome.status for outcome in before.values()] == [403, 403, 422]
    async with running_on(log, max_work=300) as triode:
        assert triode.store.outcomes.rows() == before


async def test_a_batch_is_done_once(logged: bool) -> None:
    one: dict[str, Any] = {"type": "increment", "path": ".n"}
    async with served(logged, {"n": 0, "list": []}) as triode:
        for atomic in (False, True):
            command = {"type": "batch", "ops": [one, one], "atomic": atomic, "key": f"k{atomic}"}
            answers = [await execute(triode, copy.deepcopy(command)) for _ in range(2)]
            assert answers[0] == answers[1]
        append = {"type": "append", "path": ".list", "value": 1, "key": "own"}
        command = {"type": "batch", "ops": [append, one, append], "key": "all"}
        first = await execute(triode, copy.deepcopy(command))
        assert first["positions"][0] == first["positions"][2] != first["positions"][1]
        assert triode.store.document.root == {"n": 5, "list": [1]}
        with pytest.raises(Refusal, match="one write"):
            await execute(triode, {"type": "batch", "ops": [append], "atomic": True})


async def test_a_long_text_is_digested_in_turns_alike() -> None:
    small, large = (Set(("a",), ["x" * 1000] * number) for number in (1, AT_ONCE_BYTES // 1000))
    for op in (small, large):
        assert await make_key(OWNER, "k", op) == await make_key(OWNER, "k", copy.deepcopy(op))
    assert await make_key(OWNER, "k", small) != await make_key(OWNER, "k", large)


def key(name: str, by: str = "") -> Key:
    return Key(name, "asked", by)


class TestBounds:
    def test_the_last_ones_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outcomes, "KEPT", 3)
        table = Outcomes()
        for number in range(5):
            table.add(key(str(number)), number, 0, DONE)
        assert list(table.rows()) == ["2", "3", "4"]

    def test_who_has_most_loses_the_oldest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outcomes, "KEPT", 6)
        table = Outcomes()
        for number, by in enumerate("abbaaaaaaaaaa"):
            table.add(key(f"{by}{number}", by), number, 0, DONE)
        assert list(table.rows()) == ["b1", "b2", "a9", "a10", "a11", "a12"]
        for number, by in enumerate("cccdd", 13):
            table.add(key(f"{by}{number}", by), number, 0, DONE)
        assert [name[0] for name in table.rows()] == [*"baccdd"], "of equals who has the oldest"

    def test_rows_say_who_is_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that begins with a snapshot goes on like the one that made it."""
        monkeypatch.setattr(outcomes, "KEPT", 20)
        monkeypatch.setattr(outcomes, "KEPT_MS", 60)
        choices, tables, time_ms = Random(1), [Outcomes()], 0
        for number in range(2000):
            name = f"{choices.randrange(60)}"
            by, time_ms = name[0], time_ms + choices.randrange(9) // 8 * 20
            for table in tables:
                if table.find(key(name, by), time_ms) is None:
                    table.add(key(name, by), number, time_ms, DONE)
            if number % 100 == 0:
                tables.append(Outcomes(tables[0].rows().items()))
            rows = list(tables[0].rows().items())
            assert all(list(table.rows().items()) == rows for table in tables)
            assert len(rows) <= 20

    def test_names_that_have_gone_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One old key of somebody stays in front of all that come and go behind it."""
        monkeypatch.setattr(outcomes, "KEPT", 10)
        table = Outcomes([("old", Outcome(0, 0, DONE, "asked", "a"))])
        for number in range(1, 1000):
            table.add(key(f"{number}", "b"), number, 0, DONE)
            assert len(table._swept) + len(table._unswept) <= 40
        assert "old" in table.rows()

    def test_for_ten_minutes_of_log_time(self) -> None:
        table = Outcomes()
        table.add(key("a"), 1, 1000, DONE)
        last_ms = 1000 + outcomes.KEPT_MS
        assert table.find(key("a"), last_ms) == Outcome(1, 1000, DONE, "asked")
        assert table.find(key("a"), last_ms + 1) is None
        table.add(key("b"), 2, last_ms, DONE)
        assert list(table.rows()) == ["a", "b"]
        table.add(key("c"), 3, last_ms + 1, DONE)
        assert list(table.rows()) == ["b", "c"]

    def test_a_hundred_at_most_go_at_once(self) -> None:
        table = Outcomes()
        for number in range(250):
            table.add(key(str(number)), number, 0, DONE)
        lengths = []
        for name in "abcd":
            table.add(key(name), 251, outcomes.KEPT_MS + 1, DONE)
            lengths.append(len(table))
        assert lengths == [151, 52, 3, 4]
        assert table.find(key("249"), outcomes.KEPT_MS + 1) is None

    def test_one_whose_time_is_over_begins_anew(self) -> None:
        store = begun({"n": 0}, 10, 1 << 20)
        for time_ms in (0, outcomes.KEPT_MS, outcomes.KEPT_MS + 1, outcomes.KEPT_MS + 2):
            redo(store, Bounds(), Entry(time_ms, Increment(("n",)), key=key("a")))
        assert store.document.root == {"n": 2}
        assert store.outcomes.rows() == {"a": Outcome(3, outcomes.KEPT_MS + 1, DONE, "asked")}

    @pytest.mark.parametrize("senders", [1, 20_000])
    def test_what_it_takes_is_known(self, senders: int) -> None:
        import gc
        import tracemalloc

        gc.collect()
        tracemalloc.start()
        try:
            table = Outcomes()
            for number in range(20_000):
                name, asked = f"{number:032x}", f"{number:016x}"
                by = f"{number % senders:012x}"
                table.add(Key(name, asked, by), 100_000 + number, 1_767_225_600_000 + number, DONE)
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert 0.8 * taken < table.bytes < 1.2 * taken


@pytest.mark.parametrize("text", ["", "x" * 256, "a\nb", "é", 5, None, ["a"]])
def test_what_is_no_key(text: Any) -> None:
    with pytest.raises(Refusal, match="255 printable"):
        check_key(text)


def test_the_field() -> None:
    assert key_of_field('"8e03978e-40d5"') == key_of_field("8e03978e-40d5") == "8e03978e-40d5"
    assert key_of_field(r'"a\"b\\c"') == r'a"b\c'
    for wrong in ("", '""', '"' + "x" * 256 + '"', "\x7f"):
        with pytest.raises(Refusal, match="Idempotency-Key must be"):
            key_of_field(wrong)
